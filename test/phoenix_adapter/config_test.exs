defmodule Ferrosock.PhoenixAdapter.ConfigTest do
  # What becomes of the `http:` of an endpoint. That Phoenix serves by it is shown in test/phoenix.
  use ExUnit.Case, async: true

  alias Ferrosock.Options
  alias Ferrosock.PhoenixAdapter.{Config, Foreign}

  @page "guides/coming-from-bandit-or-cowboy.md"

  describe "options of ours" do
    test "stay as they are" do
      given = [
        http_1_options: [half_close: false, max_requests: 3],
        http_2_options: [enabled: false],
        http_options: [compress: false],
        ip: :loopback,
        max_connections: 10,
        port: 4001,
        tls_options: [versions: [:"tlsv1.3"]],
        websocket_options: [deflate_options: [level: 2], ping_interval: 1_000]
      ]

      assert options(given) == {given, []}
    end

    test "that are unknown are left to the server, which names them" do
      for {given, message} <- [
            {[prot: 4000], "unknown option :prot; known are :plug,"},
            {[http_1_options: [max_request: 1]],
             "unknown option :max_request in :http_1_options"},
            {[websocket_options: [max_lifetime: 0]],
             "invalid value for option :max_lifetime in :websocket_options: 0; accepted is"},
            {[port: "80a"], ~s|invalid value for option :port: "80a"; accepted is|},
            {[port: nil], "invalid value for option :port: nil; accepted is"},
            {[deflate_options: []], "unknown option :deflate_options"}
          ] do
        {options, []} = Config.options(given)

        error =
          assert_raise ArgumentError, fn -> Options.server!([plug: __MODULE__] ++ options) end

        assert error.message =~ message
      end
    end

    test "count before what others say" do
      given = [
        thousand_island_options: [port: 1, num_acceptors: 2, read_timeout: 3],
        compress: true,
        port: 4,
        http_options: [compress: false],
        http_1_options: [idle_timeout: 5]
      ]

      assert options(given) == {
               [
                 http_1_options: [idle_timeout: 5],
                 http_2_options: [idle_timeout: 3],
                 http_options: [compress: false],
                 num_acceptors: 2,
                 port: 4
               ],
               []
             }
    end
  end

  describe "the address" do
    test "may be that of IPv6 in all ways" do
      for given <- [
            [:inet6, port: 4000],
            [{:port, 4000}, :inet6],
            [port: 4000, net: :inet6],
            [port: 4000, transport_options: [socket_opts: [:inet6]]],
            [port: 4000, thousand_island_options: [transport_options: [:inet6]]],
            [port: 4000, inet6: true]
          ] do
        assert options(given) == {[inet6: true, port: 4000], []}, inspect(given)
      end

      assert options([:inet, net: :inet, port: 1]) == {[port: 1], []}
    end

    test "may have its port as a string, or in the environment" do
      System.put_env("FERROSOCK_TEST_PORT", "4567")
      assert options(port: "0") == {[port: 0], []}
      assert options(port: {:system, "FERROSOCK_TEST_PORT"}) == {[port: 4567], []}
      assert options(thousand_island_options: [port: "80"]) == {[port: 80], []}

      assert_raise ArgumentError,
                   "option :port names the environment variable FERROSOCK_NO_PORT, which is not set",
                   fn -> Config.options(port: {:system, "FERROSOCK_NO_PORT"}) end
    end
  end

  describe "options of Bandit" do
    test "are translated" do
      given = [
        http_options: [
          response_encodings: ["gzip", "x-gzip"],
          zstd_options: %{compressionLevel: 5},
          log_protocol_errors: false
        ],
        http_1_options: [gc_every_n_keepalive_requests: 5, max_header_count: 60],
        http_2_options: [
          max_header_block_size: 90_000,
          default_local_settings: [max_concurrent_streams: 10, header_table_size: 1]
        ],
        websocket_options: [
          max_frame_size: 0,
          validate_text_frames: false,
          primitive_ops_module: Some
        ],
        thousand_island_options: [
          num_acceptors: 10,
          num_connections: 20,
          read_timeout: :infinity,
          shutdown_timeout: :brutal_kill,
          supervisor_options: [name: Some],
          num_listen_sockets: 2,
          transport_options: [
            :inet6,
            ip: :loopback,
            certfile: "cert.pem",
            keyfile: "key.pem",
            cacertfile: "ca.pem",
            reuseport: true,
            keepalive: true
          ]
        ]
      ]

      assert options(given) == {
               [
                 certfile: "cert.pem",
                 http_1_options: [idle_timeout: 4_294_967_295, max_header_count: 60],
                 http_2_options: [
                   idle_timeout: 4_294_967_295,
                   max_concurrent_streams: 10,
                   max_header_length: 90_000
                 ],
                 http_options: [
                   response_encodings: ["gzip"],
                   zstd_options: [compressionLevel: 5]
                 ],
                 inet6: true,
                 ip: :loopback,
                 keyfile: "key.pem",
                 max_connections: 200,
                 name: Some,
                 num_acceptors: 10,
                 reuse_port: true,
                 shutdown_timeout: 1,
                 tls_options: [cacertfile: "ca.pem"],
                 websocket_options: [max_frame_size: :infinity, validate_utf8: false]
               ],
               [
                 ":header_table_size in :default_local_settings of :http_2_options",
                 ":keepalive in :transport_options of :thousand_island_options",
                 ":log_protocol_errors in :http_options",
                 ":num_listen_sockets in :thousand_island_options",
                 ":primitive_ops_module in :websocket_options"
               ]
             }
    end

    test "that are unknown are refused" do
      assert_raise ArgumentError,
                   "unknown option :num_acceptor in :thousand_island_options",
                   fn -> Config.options(thousand_island_options: [num_acceptor: 1]) end

      assert_raise ArgumentError,
                   "unknown option :cert_file in :transport_options of :thousand_island_options",
                   fn ->
                     Config.options(thousand_island_options: [transport_options: [cert_file: ""]])
                   end
    end
  end

  describe "options of Plug.Cowboy" do
    test "are translated" do
      given = [
        compress: true,
        timeout: 5_000,
        ref: Some,
        versions: [:"tlsv1.2"],
        stream_handlers: [],
        transport_options: [
          num_acceptors: 5,
          max_connections: :infinity,
          shutdown: 5_000,
          socket_opts: [backlog: 10, nodelay: false, linger: {true, 1}]
        ],
        protocol_options: [
          idle_timeout: 75_000,
          request_timeout: 9_000,
          max_keepalive: 100,
          # Less than the whole head may have anyway
          max_header_name_length: 64,
          max_header_value_length: 100_000,
          max_cookie_header_value_length: 8_192,
          max_request_line_length: 20_000,
          max_method_length: 32,
          proxy_header: true,
          env: %{},
          logger: Some
        ]
      ]

      assert options(given) == {
               [
                 backlog: 10,
                 http_1_options: [
                   header_timeout: 9_000,
                   idle_timeout: 75_000,
                   max_header_length: 100_000,
                   max_request_line_length: 20_000,
                   max_requests: 100
                 ],
                 http_2_options: [
                   idle_timeout: 75_000,
                   max_header_length: 100_000,
                   max_requests: 100
                 ],
                 http_options: [compress: true],
                 max_connections: :infinity,
                 nodelay: false,
                 num_acceptors: 5,
                 proxy_protocol: true,
                 shutdown_timeout: 5_000,
                 tls_options: [versions: [:"tlsv1.2"]]
               ],
               [
                 ":env in :protocol_options",
                 ":logger in :protocol_options",
                 ":ref",
                 ":stream_handlers"
               ]
             }
    end

    test "of the kernel's that have no name are told as one, whatever they are" do
      assert options(transport_options: [socket_opts: [{:raw, 6, 18, <<0::32>>}, backlog: 10]]) ==
               {[backlog: 10], [":raw in :socket_opts of :transport_options"]}

      assert options(thousand_island_options: [transport_options: [{:raw, 6, 18, <<0::32>>}]]) ==
               {[], [":raw in :transport_options of :thousand_island_options"]}
    end

    test "limit connections for each acceptor, of which there are a hundred" do
      for given <- [
            [transport_options: [max_connections: 50]],
            [thousand_island_options: [num_connections: 50]]
          ] do
        assert options(given) == {[max_connections: 5_000], []}
      end
    end

    test "that route to Cowboy's handlers are refused" do
      assert_raise ArgumentError, ~r/^option :dispatch routes to handlers of Cowboy/, fn ->
        Config.options(port: 4000, dispatch: [{:_, []}])
      end
    end
  end

  test "the line at the start has a level, or is not there" do
    for level <- [false, :debug],
        do: assert(options(startup_log: level) == {[startup_log: level], []})

    assert_raise ArgumentError,
                 "invalid value for option :startup_log: :loud; accepted is a log level or `false`",
                 fn -> Config.options(startup_log: :loud) end
  end

  test "what is no list of options is refused" do
    for {given, message} <- [
          {true, "options must be a list, got: true"},
          {[:inet7], "invalid option :inet7"},
          {["port", 4000], ~s|invalid option "port"|},
          {[{"port", 4000}], ~s|invalid option {"port", 4000}|},
          {[http_options: true], "options in :http_options must be a keyword list, got: true"},
          {[http_options: [:compress]],
           "options in :http_options must be a keyword list, got: [:compress]"},
          {[transport_options: [socket_opts: %{}]],
           "options in :socket_opts of :transport_options must be a list, got: %{}"}
        ] do
      assert_raise ArgumentError, message, fn -> Config.options(given) end
    end
  end

  # Each table of the page, and how its options are written for an endpoint.
  @tables %{
    "Bandit: `http_options`" => [:http_options],
    "Bandit: `http_1_options`" => [:http_1_options],
    "Bandit: `http_2_options`" => [:http_2_options],
    "Bandit: `websocket_options`" => [:websocket_options],
    "Bandit: `thousand_island_options`" => [:thousand_island_options],
    "Plug.Cowboy" => [],
    "Plug.Cowboy: `protocol_options`" => [:protocol_options],
    "Plug.Cowboy: `protocol_options` of HTTP/2" => [:protocol_options],
    "Plug.Cowboy: `transport_options`" => [:transport_options],
    "Sockets" => [:thousand_island_options, :transport_options],
    "TLS" => [:thousand_island_options, :transport_options]
  }

  # The adapter's own, Cowboy's that is refused, groups, and those that are not in an endpoint's `http:`.
  @apart ~w(plug options dispatch log_exceptions_with_status_code conn_in_exception_metadata net inet inet6
            protocol_options transport_options supervisor_options default_local_settings handler_options
            socket_opts deflate_options zstd_options)

  # The page names what to use, but their values say something else.
  @other_values ~w(hibernate ref alpn_preferred_protocols max_stream_window_size max_connections_retry_count
                   max_connections_retry_wait low_watermark high_msgq_watermark low_msgq_watermark
                   goaway_initial_timeout goaway_complete_timeout protocols next_protocols_advertised)

  for {heading, where} <- @tables do
    test "#{heading} becomes what the page says" do
      for {theirs, ours} <- rows(unquote(heading)), name <- theirs, name not in @apart do
        given = nested(unquote(where), String.to_atom(name), 1_000_000)
        {options, ignored} = Config.options(given)

        cond do
          options != [] -> assert hd(paths(options)) in ours, "#{name}: #{inspect(options)}"
          ours == [] or name in @other_values -> assert length(ignored) <= 1
          true -> flunk("#{name} is ignored, and the page says #{inspect(ours)}")
        end
      end
    end
  end

  test "all tables for Phoenix have targets that exist" do
    known =
      for {group, option} <- Options.Table.all().server,
          name <- [group | inner(option)],
          do: if(name == group, do: [group], else: [group, name])

    tables = [Foreign.top() | for({name, _} <- Foreign.top(), t = Foreign.extra(name), do: t)]
    assert Enum.uniq(Enum.flat_map(tables, &targets/1)) -- [[:name] | known] == []
  end

  # As both sides sorted, whatever the order of the parts.
  defp options(given) do
    {options, ignored} = Config.options(given)
    sorted = for {name, value} <- options, do: {name, sorted(value)}
    {Enum.sort(sorted), Enum.sort(ignored)}
  end

  defp sorted(value), do: if(Keyword.keyword?(value), do: Enum.sort(value), else: value)

  defp nested([], name, value), do: [{name, value}]
  defp nested([group | where], name, value), do: [{group, nested(where, name, value)}]

  defp paths(options) do
    Enum.flat_map(options, fn {name, value} ->
      if Keyword.keyword?(value) and value != [],
        do: for({inner, _value} <- value, do: "#{name}: #{inner}"),
        else: ["#{name}"]
    end)
  end

  defp rows(heading) do
    [_before, section] = String.split(File.read!(@page), "\n### #{heading}\n")
    [section | _rest] = String.split(section, ~r/\n##+ /)

    for row <- String.split(section, "\n"), row =~ ~r/^\| `[a-z]/ do
      [theirs, ours, note] = row |> String.trim("|") |> String.split("|")
      ours = names(ours)
      # The second of two may be in the note.
      {names(theirs), if(ours == [], do: [], else: ours ++ names(note))}
    end
  end

  defp names(cell), do: ~r/`([^`]+)`/ |> Regex.scan(cell) |> Enum.map(&List.last/1)

  defp inner({{:options, table}, _default, _doc}), do: Keyword.keys(table)
  defp inner(_option), do: []

  defp targets(table), do: Enum.flat_map(table, fn {_name, target} -> target(target) end)

  defp target({:options, table}), do: targets(table)
  defp target({how, target}) when how in [:at_least, :each_acceptor], do: target(target)
  defp target(names) when is_list(names), do: Enum.map(names, &Tuple.to_list/1)
  defp target(how) when how in [:none, :always, :refused], do: []
  defp target(name), do: [[name]]
end
