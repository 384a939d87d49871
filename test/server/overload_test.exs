defmodule Ferrosock.Server.OverloadTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Echo

  defp server(options) do
    serve(
      fn conn ->
        if conn.request_path == "/ws",
          do: Ferrosock.upgrade(conn, Echo, nil),
          else: Plug.Conn.send_resp(conn, 200, "ok")
      end,
      options
    )
  end

  defp full(server) do
    keep_alive = connect(server)
    assert %{status: 200} = request(keep_alive, "GET", "/")
    websocket = websocket(server, "/ws")
    assert Ferrosock.info(server).connections == 2
    {keep_alive, websocket}
  end

  defp works?(websocket) do
    send_frame(websocket, :text, "hello")
    recv_frame(websocket) == {:text, "hello"}
  end

  for {name, index} <- [{"a kept-alive connection", 0}, {"a WebSocket", 1}] do
    test "a connection too many waits until #{name} ends" do
      server = server(max_connections: 2)
      full = full(server)
      third = connect(server)
      write(third, head("GET", "/"))
      assert {:error, :timeout} = :gen_tcp.recv(third, 0, 200)
      assert Ferrosock.info(server).connections == 2
      assert works?(elem(full, 1))

      :gen_tcp.close(elem(full, unquote(index)))
      assert %{status: 200} = response(third)
      assert Ferrosock.info(server).connections == 2
    end
  end

  test "a connection too many may be refused" do
    server = server(max_connections: 2, overload: :refuse)
    {keep_alive, websocket} = full(server)

    log =
      capture_log(fn ->
        for _ <- 1..3 do
          third = connect(server)
          assert %{status: 503, headers: headers} = request(third, "GET", "/")
          assert {"connection", "close"} in headers
          assert closed?(third)
        end

        eventually(fn -> Ferrosock.info(server).connections == 2 end)
      end)

    assert [_, _, _] = Regex.scan(~r/sent: too many connections/, log)
    assert works?(websocket)
    :gen_tcp.close(keep_alive)
    eventually(fn -> Ferrosock.info(server).connections == 1 end)
    assert %{status: 200} = server |> connect() |> request("GET", "/")
  end

  test "a server that is full stops all the same" do
    server = server(max_connections: 2, websocket_options: [close_timeout: 500])
    {_keep_alive, websocket} = full(server)
    third = connect(server)
    :ok = ExUnit.Callbacks.stop_supervised(server_id(server))
    assert {:close, 1001, ""} = recv_frame(websocket)
    assert closed?(third)
  end

  defp server_id(server) do
    {:ok, supervisor} = ExUnit.fetch_test_supervisor()

    {id, ^server, _type, _modules} =
      List.keyfind!(Supervisor.which_children(supervisor), server, 1)

    id
  end

  test "many that come at once are all served" do
    server = server(max_connections: 3)

    1..60
    |> Task.async_stream(
      fn _ ->
        socket = connect(server)
        response = request(socket, "GET", "/", [{"connection", "close"}])
        :gen_tcp.close(socket)
        response.status
      end,
      max_concurrency: 20
    )
    |> Enum.each(&assert &1 == {:ok, 200})

    assert Ferrosock.info(server).accepted == 60
  end
end
