defmodule Sample.LongPollCase do
  # Channels by requests: each poll waits for messages, each message is a POST.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Sample.Client, only: [port: 0, open: 1, push: 4]

  setup do
    [port: port()]
  end

  test "joins, replies and hears what others say by WebSocket", %{port: port} do
    token = session(port)
    topic = "room:#{System.unique_integer([:positive])}"

    send_message(port, token, topic, "phx_join", %{})
    assert [[_join_ref, _ref, ^topic, "phx_reply", %{"status" => "ok"}]] = poll(port, token)

    other = open(port)
    {"ok", _response} = Sample.Client.join(other, topic)
    poll = Task.async(fn -> poll(port, token) end)
    push(other, topic, "say", %{text: "hi"})
    assert [[_join_ref, nil, ^topic, "said", %{"text" => "hi"}]] = Task.await(poll, 20_000)

    send_message(port, token, topic, "echo", %{text: "back"})
    assert [[_join_ref, _ref, ^topic, "phx_reply", reply]] = poll(port, token)
    assert reply == %{"status" => "ok", "response" => %{"text" => "back"}}
  end

  test "is told 410 where its session is gone, and begins anew", %{port: port} do
    assert %{"status" => 410, "token" => token} = get(port, "wrong")
    assert %{status: 200, body: body} = post(port, "wrong", "[]")
    assert %{"status" => 410} = Jason.decode!(body)
    send_message(port, token, "phoenix", "heartbeat", %{})
    assert [[_join_ref, _ref, "phoenix", "phx_reply", %{"status" => "ok"}]] = poll(port, token)
  end

  test "answers a preflight", %{port: port} do
    headers = [{"access-control-request-headers", "content-type"}]
    response = port |> connect() |> request("OPTIONS", "/socket/longpoll", headers)
    assert response.status == 200
    assert header(response, "access-control-allow-origin") == ["*"]
    assert header(response, "access-control-allow-headers") == ["content-type"]
  end

  defp session(port) do
    assert %{"status" => 410, "token" => token} = get(port, nil)
    token
  end

  defp poll(port, token) do
    assert %{"status" => 200, "messages" => messages} = get(port, token)
    Enum.map(messages, &if(is_binary(&1), do: Jason.decode!(&1), else: &1))
  end

  defp send_message(port, token, topic, event, payload) do
    message = Jason.encode!([topic, "ref", topic, event, payload])
    assert %{status: 200, body: body} = post(port, token, message)
    assert Jason.decode!(body)["status"] == 200
  end

  defp get(port, token) do
    response = port |> connect() |> request("GET", path(token))
    assert response.status == 200
    Jason.decode!(response.body)
  end

  defp post(port, token, body) do
    headers = [
      {"content-type", "application/x-ndjson"},
      {"content-length", "#{byte_size(body)}"}
    ]

    port |> connect() |> request("POST", path(token), headers, body)
  end

  defp path(nil), do: "/socket/longpoll?vsn=2.0.0"
  defp path(token), do: path(nil) <> "&token=" <> URI.encode_www_form(token)
end
