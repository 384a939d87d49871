defmodule Ferrosock.WebSocket.UpgradeTest do
  use ExUnit.Case, async: true

  import Plug.Conn
  import Plug.Test, only: [conn: 2]

  alias Ferrosock.UpgradeError

  @handshake [
    {"host", "example.com"},
    {"connection", "keep-alive, Upgrade"},
    {"upgrade", "WebSocket"},
    {"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="},
    {"sec-websocket-version", "13"}
  ]

  test "a handshake is recorded" do
    conn = Ferrosock.upgrade(handshake(), MyApp.Echo, :state, timeout: 1)

    assert conn.state == :upgraded
    assert_received {_ref, :upgrade, {:websocket, {MyApp.Echo, :state, [timeout: 1]}}}
  end

  test "WebSock.upgrade/4 is the same function" do
    assert WebSock.upgrade(handshake(), MyApp.Echo, :state, []).state == :upgraded
  end

  test "tokens may be spread over several headers" do
    conn = handshake() |> delete_req_header("connection")

    headers =
      conn.req_headers ++ [{"connection", "keep-alive"}, {"connection", "x, upgrade"}]

    assert Ferrosock.upgrade(%{conn | req_headers: headers}, MyApp.Echo, nil, []).state ==
             :upgraded
  end

  for {header, value} <- [
        {"host", nil},
        {"connection", nil},
        {"connection", "keep-alive"},
        {"upgrade", nil},
        {"upgrade", "h2c"},
        {"sec-websocket-key", nil},
        {"sec-websocket-key", "c2hvcnQ="},
        {"sec-websocket-key", "not base64 at all, no"},
        {"sec-websocket-version", nil}
      ] do
    test "#{header}: #{inspect(value)} is refused with 400" do
      conn = with_header(unquote(header), unquote(value))

      error = assert_raise UpgradeError, fn -> Ferrosock.upgrade(conn, MyApp.Echo, nil, []) end
      assert Plug.Exception.status(error) == 400
      assert Exception.message(error) =~ unquote(header)
    end
  end

  test "another version is refused with 426" do
    conn = with_header("sec-websocket-version", "8")

    error = assert_raise UpgradeError, fn -> Ferrosock.upgrade(conn, MyApp.Echo, nil, []) end
    assert Plug.Exception.status(error) == 426
  end

  test "another method is refused" do
    assert_raise UpgradeError, ~r/GET, not POST/, fn ->
      Ferrosock.upgrade(%{handshake() | method: "POST"}, MyApp.Echo, nil, [])
    end
  end

  test "the check waits where that is asked for" do
    conn = conn(:get, "/")
    options = [early_validate_upgrade: false]
    assert Ferrosock.upgrade(conn, MyApp.Echo, nil, options).state == :upgraded
  end

  test "options are checked" do
    assert_raise ArgumentError, ~r/unknown option :timeuot/, fn ->
      Ferrosock.upgrade(handshake(), MyApp.Echo, nil, timeuot: 1)
    end
  end

  test "a conn of another server is refused by its adapter's name" do
    conn = %{handshake() | adapter: {Other.Adapter, nil}}

    assert_raise ArgumentError, ~r/Other\.Adapter/, fn ->
      Ferrosock.upgrade(conn, MyApp.Echo, nil, [])
    end
  end

  defp handshake, do: %{conn(:get, "/") | req_headers: @handshake}

  defp with_header(header, nil), do: delete_req_header(handshake(), header)
  defp with_header(header, value), do: put_req_header(handshake(), header, value)
end
