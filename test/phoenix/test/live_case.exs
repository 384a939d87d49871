defmodule Sample.LiveCase do
  # A LiveView by a client that knows its protocol: the page, the join with the page's session, an event.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Sample.Client

  setup do
    port = port()
    page = port |> connect() |> request("GET", "/")
    assert page.status == 200
    [cookie] = header(page, "set-cookie")

    [
      port: port,
      cookie: {"cookie", cookie |> String.split(";") |> hd()},
      csrf: attribute(page.body, ~s|name="csrf-token" content|),
      topic: "lv:" <> attribute(page.body, "id", "phx-"),
      session: attribute(page.body, "data-phx-session"),
      static: attribute(page.body, "data-phx-static")
    ]
  end

  test "is mounted, and shows what an event changes on every page", context do
    socket = live(context, context.csrf)
    assert {"ok", %{"rendered" => rendered}} = mount(socket, context)
    assert rendered |> inspect() |> String.contains?(~s|"0"|)

    click = %{type: "click", event: "add", value: %{value: ""}}
    push(socket, context.topic, "event", click)

    # The reply to the event, and the change that its broadcast makes, in either order.
    messages = for _ <- 1..2, do: receive_message(socket)
    assert Enum.any?(messages, &match?({_topic, "phx_reply", %{"status" => "ok"}}, &1))
    assert Enum.any?(messages, &match?({_topic, "diff", %{"0" => "1"}}, &1))
  end

  test "is not mounted without the token of the page", context do
    socket = live(context, "wrong")
    assert {"error", %{"reason" => "stale"}} = mount(socket, context)
  end

  defp live(context, csrf) do
    query = URI.encode_query(%{"_csrf_token" => csrf, "vsn" => "2.0.0"})
    websocket(context.port, "/live/websocket?" <> query, [context.cookie])
  end

  defp mount(socket, context) do
    join(socket, context.topic, %{
      url: "http://localhost/",
      params: %{_csrf_token: context.csrf, _mounts: 0},
      session: context.session,
      static: context.static
    })
  end

  defp attribute(html, name, prefix \\ "") do
    [_match, value] = Regex.run(~r/#{Regex.escape(name)}="(#{prefix}[^"]*)"/, html)
    value
  end
end
