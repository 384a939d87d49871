defmodule Ferrosock.Server.DrainLateTest do
  # A drain that begins while the kernel has connections, or requests, that the engine has not seen.
  #
  # Not async: the reactors, which these tests hold up, serve the whole node.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Raw
  import Plug.Conn, only: [send_resp: 3]

  describe "an HTTP connection" do
    # It has a quarter of a second. A busy machine may need longer than that, though not every time.
    test "is served when its request comes a little after it was accepted" do
      assert Enum.any?(1..5, fn _attempt -> served_after_silence?() end)
    end

    test "is served when the kernel has its request, also where it has not been accepted" do
      {server, port} = hello()
      kept = connect(port)
      request(kept, "GET", "/")

      {sockets, draining} =
        without_reactors(fn ->
          new = for _ <- 1..20, do: connect(port)
          for socket <- [kept | new], do: write(socket, head("GET", "/"))
          draining = Task.async(fn -> Ferrosock.drain(server) end)
          eventually(fn -> waits_for_engine?(server) end)
          {[kept | new], draining}
        end)

      for socket <- sockets do
        assert response = response(socket)
        assert response.body == "hello"
        assert header(response, "connection") == ["close"]
      end

      assert Task.await(draining, 20_000) == :ok
      assert refused?(port)
    end
  end

  defp served_after_silence? do
    {server, port} = hello()

    {socket, draining} =
      without_reactors(fn ->
        socket = connect(port)
        draining = Task.async(fn -> Ferrosock.drain(server) end)
        eventually(fn -> waits_for_engine?(server) end)
        {socket, draining}
      end)

    eventually(fn -> Ferrosock.info(server).accepted == 1 end)

    served? =
      with {:error, :timeout} <- silence(socket),
           :ok <- :gen_tcp.send(socket, head("GET", "/")),
           {:ok, _response} <- :gen_tcp.recv(socket, 0, 15_000),
           do: true,
           else: (_ended -> false)

    assert Task.await(draining, 20_000) == :ok
    served?
  end

  # For which an older connection would be closed.
  defp silence(socket), do: :gen_tcp.recv(socket, 0, 30)

  defp hello do
    server = serve(&send_resp(&1, 200, "hello"))
    {server, port(server)}
  end

  defp waits_for_engine?(server) do
    case :sys.get_state(Ferrosock.Server.drain(server)).task do
      nil -> false
      task -> Process.info(task.pid, :status) == {:status, :waiting}
    end
  end

  # What it does meets an engine that stands still.
  defp without_reactors(fun) do
    reactors =
      for {_id, pid, _, _} <- Supervisor.which_children(Ferrosock.Server.Reactors), do: pid

    Enum.each(reactors, &:sys.suspend/1)

    try do
      fun.()
    after
      Enum.each(reactors, &:sys.resume/1)
    end
  end
end
