defmodule WebSockAdapterTests.HandOverTest do
  # What becomes of the options of `WebSockAdapter.upgrade/4`, and of requests that it should not have been called for.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.Test.{Echo, HTTP2, Logs}

  # Of its own, because an option is told once for each handler.
  defmodule Handler do
    defdelegate init(state), to: Echo
    defdelegate handle_in(message, state), to: Echo
    defdelegate handle_info(message, state), to: Echo
  end

  describe "options" do
    # Those of a socket of Phoenix.
    @foreign [
      path: "/websocket",
      serializer: [{Some.Serializer, "~> 2.0.0"}],
      error_handler: {Some.Socket, :handle_error, []},
      transport_log: false,
      primitive_ops_module: Some.Ops
    ]

    test "that nobody knows are dropped, and told once for each handler" do
      level = Logger.level()
      on_exit(fn -> Logger.configure(level: level) end)
      Logger.configure(level: :debug)
      Logs.attach()

      server =
        serve(
          &WebSockAdapter.upgrade(
            &1,
            Handler,
            [],
            @foreign ++ [deflate_options: [strategy: :rle]]
          )
        )

      for _ <- 1..3, do: assert_echo(websocket(server))
      assert [{:log, :debug, text, _meta}] = Logs.taken(inspect(Handler))

      names =
        ":path, :serializer, :error_handler, :transport_log, :primitive_ops_module, :strategy in :deflate_options"

      assert text ==
               "Ferrosock ignores options of WebSockAdapter.upgrade/4 to #{inspect(Handler)}: #{names}"
    end

    test "that we have do what they say" do
      options = [
        timeout: 200,
        max_frame_size: 10,
        validate_utf8: false,
        fullsweep_after: 7,
        max_heap_size: 1_000_000,
        active_n: 10
      ]

      test = self()

      plug = fn conn ->
        send(test, {:plug, self()})
        WebSockAdapter.upgrade(conn, Echo, [], options)
      end

      server = serve(plug)
      socket = websocket(server)
      assert_receive {:plug, pid}
      send_frame(socket, :text, <<0xFF>>)
      assert recv_frame(socket) == {:text, <<0xFF>>}
      {:garbage_collection, flags} = Process.info(pid, :garbage_collection)
      assert flags[:fullsweep_after] == 7
      assert flags[:max_heap_size].size == 1_000_000
      assert recv_frame(socket) == {:close, 1001, "idle timeout"}
      socket = websocket(server)
      send_frame(socket, :text, "0123456789a")
      assert {:close, 1009, _reason} = recv_frame(socket)
    end

    test "count as Bandit's: no limit is 0, and of two of a name the first is meant" do
      server = serve(&WebSockAdapter.upgrade(&1, Echo, [], max_frame_size: 0, max_frame_size: 1))
      assert_echo(websocket(server))
    end

    for {name, options, negotiated} <- [
          {"Bandit", [deflate_options: [window_bits: 10, level: :best_speed, mem_level: 8]],
           "server_max_window_bits=10"},
          {"cow_ws",
           [
             deflate_opts: %{
               server_max_window_bits: 11,
               level: :default,
               server_context_takeover: :no_takeover
             }
           ], "server_max_window_bits=11"},
          {"cow_ws, by way of WebSockAdapter",
           [deflate_options: %{server_max_window_bits: 8, client_context_takeover: :takeover}],
           "server_max_window_bits=9"}
        ] do
      test "of deflate may have the names and values of #{name}" do
        options = [compress: true] ++ unquote(Macro.escape(options))
        server = serve(&WebSockAdapter.upgrade(&1, Echo, [], options))
        offer = [{"sec-websocket-extensions", "permessage-deflate; server_max_window_bits=15"}]
        assert %{status: 101} = response = server |> connect() |> handshake("/", offer)
        assert [extension] = header(response, "sec-websocket-extensions")
        assert unquote(negotiated) in (extension |> String.split(";") |> Enum.map(&String.trim/1))
      end
    end

    test "of deflate may say that nothing is compressed" do
      for level <- [0, :none] do
        options = [compress: true, deflate_options: [level: level]]
        server = serve(&WebSockAdapter.upgrade(&1, Echo, [], options))
        offer = [{"sec-websocket-extensions", "permessage-deflate"}]
        socket = websocket(server, "/", offer)
        text = String.duplicate("a", 1_000)
        send_frame(socket, :text, text)
        # It would not be read if it were.
        assert recv_frame(socket) == {:text, text}
      end
    end

    for {options, text} <- [
          {[timeout: 0], "invalid value for option :timeout: 0; accepted is an integer"},
          {[compress: "yes"],
           ~s(invalid value for option :compress: "yes"; accepted is a boolean)},
          {[max_frame_size: -1], "invalid value for option :max_frame_size: -1"},
          {[fullsweep_after: nil], "invalid value for option :fullsweep_after: nil"},
          {[deflate_options: [level: 10]],
           "invalid value for option :level in :deflate_options: 10"},
          {[deflate_options: 10], "options in :deflate_options must be a keyword list, got: 10"}
        ] do
      test "#{inspect(options)} is an error that names the option and the handler" do
        Logs.attach()
        server = serve(&WebSockAdapter.upgrade(&1, Echo, [], unquote(Macro.escape(options))))
        assert %{status: 500} = server |> connect() |> handshake()
        ended(server)
        assert [{:log, :error, logged, _meta}] = Logs.taken(server)
        assert logged =~ "WebSockAdapter.upgrade/4 to #{inspect(Echo)}: " <> unquote(text)
      end
    end

    test "do not make a WebSock of what is none" do
      Logs.attach()
      server = serve(&WebSockAdapter.upgrade(&1, Enum, [], []))
      assert %{status: 500} = server |> connect() |> handshake()
      ended(server)
      assert [{:log, :error, logged, _meta}] = Logs.taken(server)

      assert logged =~
               "WebSockAdapter.upgrade/4 to Enum: the upgrade needs a WebSock, but Enum has no function init/1"
    end
  end

  for early <- [true, false] do
    describe "a request that is no handshake, with early_validate_upgrade: #{early}," do
      @describetag early: early

      setup %{early: early} do
        Logs.attach()
        [server: serve(&WebSockAdapter.upgrade(&1, Echo, [], early_validate_upgrade: early))]
      end

      for {what, headers, status, text} <- [
            {"without headers", [], 400, "header `connection` does not have `upgrade`"},
            {"whose proxy has kept the headers of the connection to itself",
             Enum.drop(handshake_headers(), 2), 400,
             "header `connection` does not have `upgrade`"},
            {"without a key", List.keydelete(handshake_headers(), "sec-websocket-key", 0), 400,
             "header `sec-websocket-key` is not one of 16 bytes in Base64"},
            {"of another version",
             List.keyreplace(
               handshake_headers(),
               "sec-websocket-version",
               0,
               {"sec-websocket-version", "8"}
             ), 426, "version 8 is not supported, only 13 is"}
          ] do
        test "#{what} is told so, and not logged", %{server: server} do
          assert %{status: unquote(status), body: body} =
                   server |> connect() |> request("GET", "/", unquote(headers))

          assert body == "This is not a WebSocket handshake: #{unquote(text)}.\n"
          ended(server)
          assert Logs.taken(server) == []
        end
      end

      test "over HTTP/2 is told so, and leaves the connection to others", %{server: server} do
        socket = HTTP2.connect(server)
        HTTP2.request(socket, 1, "GET", "/")

        assert %{status: 400, body: "This is not a WebSocket handshake: " <> _} =
                 HTTP2.response(socket, 1)

        HTTP2.upgrade(socket, 3, "/")
        assert {200, _headers} = HTTP2.head(socket, 3)
      end

      test "in a router is told so, too", context do
        defmodule :"Elixir.WebSockAdapterTests.Router#{context.early}" do
          use Plug.Router

          plug :match
          plug :dispatch

          @early context.early
          get("/", do: WebSockAdapter.upgrade(conn, Echo, [], early_validate_upgrade: @early))
        end

        router = :"Elixir.WebSockAdapterTests.Router#{context.early}"
        server = serve(&router.call(&1, []))
        assert %{status: 400} = server |> connect() |> request("GET", "/")
        assert_echo(websocket(server))
        assert Logs.taken(server) == []
      end
    end
  end

  defp assert_echo(socket) do
    send_frame(socket, :text, "echo")
    assert recv_frame(socket) == {:text, "echo"}
  end
end
