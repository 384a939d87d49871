defmodule Ferrosock.OptionsTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.{Native, Options}
  alias Ferrosock.Options.{Table, Type}
  alias Ferrosock.Test.HTTP2
  alias Ferrosock.WebSocket.Upgrade

  describe "a server's options" do
    test "are complete with a plug alone" do
      options = Options.server!(plug: MyApp)

      assert options.plug == MyApp
      assert options.address == {{0, 0, 0, 0}, 4000}
      assert options.http_1_options.max_header_count == 100
      assert options.websocket_options.max_frame_size == 8_000_000
    end

    # A map of more than 32 keys is a hash trie.
    test "are a small map, whatever is given" do
      assert map_size(Options.server!(plug: MyApp, certfile: "cert.pem", otp_app: :my_app)) <= 32
    end

    test "keep the other defaults of a group when one is given" do
      options = Options.server!(plug: MyApp, websocket_options: [timeout: :infinity])

      assert options.websocket_options.timeout == :infinity
      assert options.websocket_options.close_timeout == 5_000
    end

    test "need a plug" do
      assert_raise ArgumentError, ~r/option :plug is required/, fn -> Options.server!([]) end
    end

    test "raise on an unknown name, and tell the known ones" do
      assert_raise ArgumentError, ~r/unknown option :prot; known are .*:port/, fn ->
        Options.server!(plug: MyApp, prot: 1)
      end
    end

    test "raise on an unknown name in a group, and name the group" do
      assert_raise ArgumentError, ~r/unknown option :timeout in :http_1_options/, fn ->
        Options.server!(plug: MyApp, http_1_options: [timeout: 1])
      end
    end

    test "raise when they are no keyword list" do
      assert_raise ArgumentError, ~r/options must be a keyword list/, fn ->
        Options.server!([:plug])
      end

      assert_raise ArgumentError, ~r/options in :http_1_options must be a keyword list/, fn ->
        Options.server!(plug: MyApp, http_1_options: %{})
      end
    end

    for {name, value} <- [
          password: :hunter2,
          key: {:RSAPrivateKey, :hunter2},
          tls_options: [certs_keys: [%{key: :hunter2}]],
          tls_options: [sni_hosts: [{"example.com", [password: :hunter2]}]]
        ] do
      test "raise on what may be a secret without telling it: #{inspect({name, value})}" do
        error =
          assert_raise ArgumentError, fn ->
            Options.server!([
              {unquote(name), unquote(Macro.escape(value))},
              plug: MyApp,
              scheme: :https
            ])
          end

        assert error.message =~ ~r/^invalid value for option .*; accepted is /
        refute error.message =~ "hunter2"
      end
    end

    for {name, value} <- [
          plug: "MyApp",
          plug: nil,
          scheme: :ftp,
          certfile: 1,
          certfile: "",
          certfile: [],
          certfile: [?a | "b"],
          port: -1,
          port: 65_536,
          port: "4000",
          ip: "127.0.0.1",
          ip: {127, 0, 0, 256},
          startup_log: true,
          num_acceptors: 0,
          reactors: :many,
          backlog: 0,
          shutdown_timeout: :infinity,
          hibernate_after: -1
        ] do
      test "raise on #{inspect(value)} for #{inspect(name)}" do
        assert_raise ArgumentError,
                     ~r/invalid value for option #{inspect(unquote(name))}: /,
                     fn ->
                       Options.server!([
                         {unquote(name), unquote(Macro.escape(value))},
                         plug: MyApp
                       ])
                     end
      end
    end

    for {name, value} <- [
          compress: :yes,
          response_encodings: [],
          response_encodings: "gzip",
          response_encodings: ["br"],
          response_encodings: [:gzip],
          response_encodings: ["gzip" | "deflate"]
        ] do
      test "raise on #{inspect(value)} for #{inspect(name)} of :http_options" do
        assert_raise ArgumentError,
                     ~r/option #{inspect(unquote(name))} in :http_options: .*; accepted is a/,
                     fn ->
                       options = [{unquote(name), unquote(Macro.escape(value))}]
                       Options.server!(plug: MyApp, http_options: options)
                     end
      end
    end

    for {group, name, value} <- [
          {:deflate_options, :level, 0},
          {:deflate_options, :window_bits, 8},
          {:deflate_options, :window_bits, 16},
          {:deflate_options, :mem_level, 10},
          {:deflate_options, :strategy, :fast},
          {:zstd_options, :compressionLevel, 10}
        ] do
      test "raise on #{inspect(value)} for #{inspect(name)} of HTTP's #{inspect(group)}" do
        assert_raise ArgumentError,
                     ~r/option #{inspect(unquote(name))} in #{inspect(unquote(group))}: /,
                     fn ->
                       options = [{unquote(group), [{unquote(name), unquote(value)}]}]
                       Options.server!(plug: MyApp, http_options: options)
                     end
      end
    end

    test "say what is accepted" do
      assert_raise ArgumentError, ~r/accepted is an integer from 0 to 65535/, fn ->
        Options.server!(plug: MyApp, port: 70_000)
      end
    end

    test "accept every form of a plug" do
      for plug <- [MyApp, {MyApp, a: 1}, fn conn, _options -> conn end] do
        assert Options.server!(plug: plug).plug == plug
      end
    end

    test "give the engine an address and limits" do
      native = Options.listener(Options.server!(plug: MyApp, ip: :loopback, port: 0))

      assert %{address: {{127, 0, 0, 1}, 0}, backlog: 1024, max_requests: 0} = native
      refute is_map_key(native, :clear_process_dict)
      assert %{half_close: true, max_unread_length: 1_048_576} = native
    end

    for {name, value} <- [
          half_close: :yes,
          half_close: nil,
          max_unread_length: -1,
          max_unread_length: :infinity,
          max_unread_length: 1_073_741_825
        ] do
      test "raise on #{inspect(value)} for #{inspect(name)} of HTTP/1" do
        message = ~r/invalid value for option #{inspect(unquote(name))} in :http_1_options/

        assert_raise ArgumentError, message, fn ->
          Options.server!(plug: MyApp, http_1_options: [{unquote(name), unquote(value)}])
        end
      end
    end
  end

  describe "an upgrade's options" do
    test "default to the server's" do
      limits = Options.server!(plug: MyApp, websocket_options: [timeout: 7]).websocket_options

      assert %{socket: socket, flags: [], early_validate?: true} = Options.upgrade!([], limits)
      assert %{timeout: 7, max_frame_size: 8_000_000, validate_utf8: true} = socket
    end

    test "narrow the server's max_frame_size and never widen it" do
      assert Options.upgrade!(max_frame_size: 10).socket.max_frame_size == 10
      assert Options.upgrade!(max_frame_size: 9_000_000).socket.max_frame_size == 8_000_000
      assert Options.upgrade!(max_frame_size: :infinity).socket.max_frame_size == 8_000_000
    end

    test "narrow a server without a max_frame_size" do
      websocket_options = [max_frame_size: :infinity]

      limits =
        Options.server!(plug: MyApp, websocket_options: websocket_options).websocket_options

      assert Options.upgrade!([], limits).socket.max_frame_size == :infinity
      assert Options.upgrade!([max_frame_size: 10], limits).socket.max_frame_size == 10
    end

    test "override a default, also with false" do
      upgrade =
        Options.upgrade!(timeout: :infinity, validate_utf8: false, early_validate_upgrade: false)

      assert %{timeout: :infinity, validate_utf8: false} = upgrade.socket
      refute upgrade.early_validate?
    end

    test "collect the process flags that were asked for" do
      assert Options.upgrade!(fullsweep_after: 0).flags == [fullsweep_after: 0]
    end

    test "accept what is meant for other servers" do
      assert Options.upgrade!(active_n: 10, compress: true, deflate_options: [level: 1])
    end

    test "raise on what is unknown or wrong" do
      assert_raise ArgumentError, ~r/unknown option :compres; known are .*:compress/, fn ->
        Options.upgrade!(compres: true)
      end

      assert_raise ArgumentError, ~r/invalid value for option :timeout: 0/, fn ->
        Options.upgrade!(timeout: 0)
      end
    end
  end

  describe "every integer option" do
    # Of each table: where its options are given.
    @groups %{
      server: [],
      http: [:http_options],
      http_deflate: [:http_options, :deflate_options],
      zstd: [:http_options, :zstd_options],
      http_1: [:http_1_options],
      http_2: [:http_2_options],
      tls: [:tls_options],
      websocket: [:websocket_options],
      deflate: [:websocket_options, :deflate_options]
    }

    test "has a bound, which is accepted; one more is refused by name, with what is accepted" do
      integers = integers()
      assert length(integers) > 40

      for {table, name, max} <- integers do
        assert check(table, name, max)

        for value <- [max + 1, 2 ** 32 * max, 2 ** 70, -1] do
          error = assert_raise ArgumentError, fn -> check(table, name, value) end
          assert error.message =~ ~r/invalid value for option #{inspect(name)}( in \S+)?: /
          assert error.message =~ ~r/accepted is .*#{max}/
        end
      end
    end

    test "may have its largest value: a server serves with all of them" do
      options =
        for {table, name, max} <- integers(),
            is_map_key(@groups, table),
            # The port is one that is free, and all servers of the node share the reactors.
            name not in [:port, :reactors],
            reduce: [] do
          options -> merge(options, nested(@groups[table], [{name, max}]))
        end

      upgrade = for {:upgrade, name, max} <- integers(), do: {name, max}

      plug = fn
        %{request_path: "/ws"} = conn, _ ->
          Ferrosock.upgrade(conn, Ferrosock.Test.Echo, nil, [compress: true] ++ upgrade)

        conn, _ ->
          Plug.Conn.send_resp(conn, 200, String.duplicate("hello", 1_000))
      end

      server = start_server!(options ++ [plug: plug])
      socket = connect(server)
      gzip = [{"accept-encoding", "gzip"}]
      for headers <- [[], gzip], do: %{status: 200} = request(socket, "GET", "/", headers)
      socket = websocket(server, "/ws", [{"sec-websocket-extensions", "permessage-deflate"}])
      send_frame(socket, :text, "hello")
      assert recv_frame(socket) == {:text, "hello"}

      options = for {:drain, name, max} <- integers(), do: {name, max}
      drain = Task.async(fn -> Ferrosock.drain(server, options) end)
      assert recv_frame(socket) == {:close, 4999, ""}
      send_frame(socket, :close, <<4999::16>>)
      assert Task.await(drain, 20_000) == :ok
    end

    defp integers do
      for {table, options} <- Table.all(),
          {name, option} <- options,
          max = Type.max(elem(option, 0)),
          do: {table, name, max}
    end

    defp check(:upgrade, name, value), do: Options.upgrade!([{name, value}])
    defp check(:drain, name, value), do: Options.drain!([{name, value}])

    defp check(table, name, value),
      do: Options.server!([plug: MyApp] ++ nested(@groups[table], [{name, value}]))

    defp nested(groups, options),
      do: List.foldr(groups, options, fn group, options -> [{group, options}] end)

    defp merge(one, other) do
      Keyword.merge(one, other, fn _group, one, other -> merge(one, other) end)
    end
  end

  describe "an option of the engine" do
    test "is written in Rust by the table alone: else run bin/config" do
      [{made, _binary}] = Code.compile_file("native/config.exs")

      for {path, source} <- made.files(),
          do: assert(File.read!(path) == source, "#{path} is not what the table makes of it")
    end

    test "reaches it as it is, the least and the largest too" do
      told = for option <- engine_options(), value <- values(option), do: reaches(option, value)
      assert length(told) > 60
    end

    for kind <- [:listener, :socket] do
      test "of a #{kind} must not be missing, and no other may be given" do
        given = given(unquote(kind), [])
        assert Native.config(unquote(kind), given) == given
        refused(unquote(kind), given, &Map.put(&1, :extra, 1), "option :extra is unknown")

        for {name, _value} <- given do
          refused(
            unquote(kind),
            given,
            &Map.delete(&1, name),
            "option #{inspect(name)} is missing"
          )

          refused(unquote(kind), given, &%{&1 | name => "?"}, "option #{inspect(name)} is wrong")
        end

        for {group, options} when is_map(options) <- given, {name, _value} <- options do
          refused(
            unquote(kind),
            given,
            &%{&1 | group => Map.delete(options, name)},
            "option #{inspect(name)} is missing"
          )
        end
      end
    end

    defp engine_options do
      for {table, options} <- Table.all(),
          {name, {type, _default, _doc, rust}} <- options,
          do: {table, name, type, place(table, rust)}
    end

    defp values({_table, _name, :boolean, _place}), do: [true, false]
    defp values({_table, _name, {:one_of, values}, _place}), do: values

    defp values({_table, _name, type, _place}) when type in [:limit, :timeout],
      do: [:infinity, Type.min(type), Type.max(type)]

    defp values({_table, _name, type, _place}), do: [Type.min(type), Type.max(type)]

    # What is told again is all that was given, and the value is in it.
    defp reaches({table, name, _type, {kind, group}}, value) do
      given = given(kind, nested(@groups[table], [{name, value}]))
      told = Native.config(kind, given)
      assert told == given
      assert get_in(told, if(group, do: [group, name], else: [name])) == value
      told
    end

    defp place(_table, {:socket, _rust}), do: {:socket, nil}
    defp place(:http_2, _rust), do: {:listener, :http2}
    defp place(:websocket, _rust), do: {:socket, nil}
    defp place(:deflate, _rust), do: {:socket, :deflate}
    defp place(table, _rust) when table in [:server, :http_1], do: {:listener, nil}

    defp given(:listener, options),
      do: Options.listener(Options.server!([plug: MyApp, ip: :loopback] ++ options))

    defp given(:socket, options) do
      server = Options.server!([plug: MyApp] ++ options)
      settings = Options.upgrade!([compress: true], server.websocket_options)

      Upgrade.socket_options(
        %Upgrade{kind: :sock, websock: MyApp, argument: nil, settings: settings},
        server
      )
    end

    defp refused(kind, given, change, message) do
      error = assert_raise ArgumentError, fn -> Native.config(kind, change.(given)) end
      assert error.message == message
    end
  end

  describe "a running server's options" do
    defmodule Weighing do
      @behaviour Plug

      @impl true
      def init(options), do: options

      @impl true
      def call(conn, {test, _ballast}) do
        send(test, {:weighed, self(), Process.info(self(), :memory)})
        Plug.Conn.send_resp(conn, 200, "")
      end
    end

    # A megabyte and a half.
    @ballast Enum.to_list(1..100_000)

    test "have no weight in the process of a connection or a stream" do
      server = start_server!(plug: {Weighing, {self(), @ballast}})
      assert %{status: 200} = server |> connect() |> request("GET", "/")
      assert_receive {:weighed, _pid, {:memory, bytes}}
      assert bytes < 100_000

      socket = HTTP2.connect(server)

      for id <- [1, 3] do
        HTTP2.request(socket, id, "GET", "/")
        assert %{status: 200} = HTTP2.response(socket, id)
        assert_receive {:weighed, _pid, {:memory, bytes}}
        assert bytes < 100_000
      end
    end

    test "end with it, and not with its listener" do
      server = start_server!(plug: {Weighing, {self(), @ballast}})
      assert shared() == 1
      listener = Ferrosock.Server.listener(server)
      Process.exit(listener, :kill)

      eventually(fn ->
        Ferrosock.Server.listener(server) not in [listener, :restarting, :undefined]
      end)

      assert %{status: 200} = server |> connect() |> request("GET", "/")
      assert_receive {:weighed, _pid, {:memory, bytes}}
      assert bytes < 100_000
      assert shared() == 1
      stop_supervised!(Ferrosock)
      assert shared() == 0
    end

    @tag :capture_log
    test "end at the next start where the listener was killed until the server gave up" do
      Process.flag(:trap_exit, true)
      options = [plug: {Weighing, {self(), @ballast}}, ip: {127, 0, 0, 1}, port: 0]
      {:ok, server} = Ferrosock.start_link([startup_log: false] ++ options)
      kill_listener_of(server)
      assert_receive {:EXIT, ^server, :shutdown}

      start_server!(plug: {Weighing, {self(), @ballast}})
      assert shared() == 1
    end

    defp kill_listener_of(server) do
      server |> Ferrosock.Server.listener() |> Process.exit(:kill)
      kill_listener_of(server)
    catch
      # By whatever way it ends under our hands.
      _kind, _reason -> if Process.alive?(server), do: kill_listener_of(server)
    end

    defp shared do
      Enum.count(:persistent_term.get(), fn {key, value} ->
        match?({Options, _table}, key) and match?(%{plug: {Weighing, _}}, value) and
          elem(elem(value.plug, 1), 0) == self()
      end)
    end
  end

  test "a max_heap_size may be a map, whose parts are checked" do
    accepted = %{size: 100_000, kill: true, error_logger: false}
    assert Options.upgrade!(max_heap_size: accepted).flags == [max_heap_size: accepted]

    for wrong <- [1, %{}, %{size: 1}, %{size: 2 ** 70}, %{size: 0, kill: 1}, %{size: 0, bytes: 1}] do
      assert_raise ArgumentError,
                   ~r/option :max_heap_size: .*; accepted is a number of words/,
                   fn ->
                     Options.upgrade!(max_heap_size: wrong)
                   end
    end
  end

  test "docs tell each option with its default" do
    assert Options.docs(:server) =~ "* `:port` - "
    assert Options.docs(:server) =~ "An integer from 0 to 65535. Default: `4000`"
    assert Options.docs(:websocket) =~ "`:max_frame_size`"
  end
end
