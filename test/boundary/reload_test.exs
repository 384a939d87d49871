defmodule Ferrosock.Boundary.ReloadTest do
  # The application is stopped and started again, and code is loaded anew and purged, under running servers: each
  # test has a VM of its own.
  use ExUnit.Case, async: true

  alias Ferrosock.Test.VM

  test "the library may be loaded anew while connections are open" do
    {output, 0} =
      VM.run("""
      socket = websocket(server, "/ws")
      {:error, {:upgrade, _}} = Ferrosock.Native.load() |> then(fn
        {:error, {reason, _text}} -> {:error, {:upgrade, reason}}
      end)
      send_frame(socket, :text, "hello")
      {:text, "hello"} = recv_frame(socket)
      for _ <- 1..5 do
        :code.delete(Ferrosock.Native)
        :code.purge(Ferrosock.Native)
        {:module, _} = :code.load_file(Ferrosock.Native)
      end
      {:ok, second} = Ferrosock.start_link(options)
      # Whoever needs it next has it loaded.
      :code.purge(Ferrosock.Adapter)
      true = :code.delete(Ferrosock.Adapter)
      socket = websocket(second, "/ws")
      send_frame(socket, :text, "again")
      {:text, "again"} = recv_frame(socket)
      IO.puts("loaded")
      System.halt(0)
      """)

    assert output == "loaded\n"
  end

  for {what, stop} <- [
        {"stopped", "Application.stop(:ferrosock)"},
        {"killed", "Process.exit(Process.whereis(Ferrosock.Server.Reactors), :kill)"}
      ] do
    test "servers end when the application is #{what}, and say why; a later start works" do
      {output, 0} =
        VM.run("""
        websockets = for _ <- 1..20, do: websocket(server, "/ws")
        idle = connect(server)
        %{status: 200} = request(idle, "GET", "/")
        Process.flag(:trap_exit, true)
        Process.unlink(server)
        Process.exit(server, :normal)
        {:ok, supervisor} = Supervisor.start_link([{Ferrosock, options}], strategy: :one_for_one)
        [{_, second, _, _}] = Supervisor.which_children(supervisor)
        more = for _ <- 1..20, do: websocket(second, "/ws")
        for _ <- 1..40, do: receive(do: ({:websocket, _pid} -> :ok))

        #{unquote(stop)}

        for socket <- websockets ++ more do
          {:close, 1001, ""} = recv_frame(socket)
          send_frame(socket, :close, <<1001::16>>)
          true = closed?(socket)
        end

        true = closed?(idle)
        receive do: ({:EXIT, ^supervisor, _reason} -> :ok)
        eventually(fn -> not Process.alive?(server) end)
        eventually(fn -> Process.whereis(Ferrosock.Server.Caretaker) == nil end)
        %{listeners: 0, connections: 0, tasks: 0} = Ferrosock.Native.stats()
        {:error, {%RuntimeError{}, _}} = catch_start = (try do
          Ferrosock.start_link(options)
        rescue
          error -> {:error, {error, __STACKTRACE__}}
        end)
        IO.puts(Exception.message(elem(elem(catch_start, 1), 0)))

        {:ok, _} = Application.ensure_all_started(:ferrosock)
        {:ok, third} = Ferrosock.start_link(options)
        %{status: 200} = request(connect(third), "GET", "/")
        IO.puts("served again")
        System.halt(0)
        """)

      assert output =~ "the application :ferrosock has stopped, whose processes run the engine"
      assert output =~ "of all servers, is not started; see Application.ensure_all_started/1"
      assert output =~ "served again\n"
    end
  end

  test "a server goes on where the application is started again at once" do
    {output, 0} =
      VM.run("""
      Process.flag(:trap_exit, true)
      Application.stop(:ferrosock)
      {:ok, _} = Application.ensure_all_started(:ferrosock)
      true = Process.alive?(server)
      eventually(fn ->
        try do
          %{status: 200} = request(connect(server), "GET", "/")
        catch
          _, _ -> false
        end
      end)
      IO.puts("served again")
      System.halt(0)
      """)

    assert output =~ "served again\n"
  end

  test "all code may be loaded anew, twice, with connections open" do
    {output, 0} =
      VM.run("""
      {:ok, server} = Ferrosock.start_link(options ++ [num_acceptors: 2])
      websockets = for _ <- 1..50, do: websocket(server, "/ws")
      pids = for _ <- 1..50, do: receive(do: ({:websocket, pid} -> pid))
      kept = for _ <- 1..50, do: connect(server)
      for socket <- kept, do: %{status: 200} = request(socket, "GET", "/")
      children = Supervisor.which_children(server)
      {:ok, modules} = :application.get_key(:ferrosock, :modules)
      # A library that is in use cannot be loaded anew, which the VM says.
      Logger.configure(level: :none)

      for round <- 1..3, module <- modules -- [Ferrosock.Native] do
        :code.purge(module)
        {:module, ^module} = :code.load_file(module)
        # As fast as it goes, with this one: it is where connections wait.
        if round > 1 and module == Ferrosock.HTTP.Connection, do: for(_ <- 1..3, do: :code.load_file(module))
      end

      for {socket, n} <- Enum.with_index(websockets) do
        send_frame(socket, :text, "still \#{n}")
        {:text, "still " <> _} = recv_frame(socket)
      end

      true = Enum.all?(pids, &Process.alive?/1)
      for socket <- kept, do: %{status: 200} = request(socket, "GET", "/")
      %{status: 200} = request(connect(server), "GET", "/")
      ^children = Supervisor.which_children(server)
      :ok = Ferrosock.drain(server, deadline: 1)
             |> then(fn _ -> :ok end)
      IO.puts("all here")
      System.halt(0)
      """)

    assert output =~ "all here\n"
  end

  for threads <- [false, true] do
    test "the library stays where its code runs when its module is purged; threads: #{threads}" do
      {output, 0} =
        VM.run(
          """
          port = port(server)

          clients =
            for _ <- 1..8 do
              spawn(fn ->
                flood = fn flood, socket ->
                  :gen_tcp.send(socket, head("GET", "/"))
                  :gen_tcp.recv(socket, 0, 50)
                  flood.(flood, socket)
                end
                flood.(flood, connect(port))
              end)
            end

          receive do: ({:plug, _pid, _conn} -> :ok)
          # Of what calls it and is killed with it, nobody should report.
          Logger.configure(level: :none)

          for _ <- 1..5 do
            :code.delete(Ferrosock.Native)
            :code.purge(Ferrosock.Native)
            Process.sleep(100)
          end

          IO.puts("purged \#{length(clients)}")
          System.halt(0)
          """,
          if(unquote(threads), do: "export FERROSOCK_REACTOR_THREADS=1", else: ":")
        )

      assert output =~ "purged 8\n"
    end
  end
end
