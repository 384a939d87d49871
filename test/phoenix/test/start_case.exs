defmodule Sample.StartCase do
  # How an endpoint starts: where it listens, what it says, and what it refuses. Not async: what is logged is the
  # whole VM's.
  use ExUnit.Case

  import ExUnit.CaptureLog
  import Ferrosock.Test.Raw

  alias Ferrosock.PhoenixAdapter
  alias Ferrosock.Test.Certificates

  defmodule Endpoint do
    use Phoenix.Endpoint, otp_app: :sample

    socket "/socket", SampleWeb.UserSocket

    plug :hello

    defp hello(conn, _options), do: send_resp(conn, 200, "#{conn.scheme} #{conn.port}")
  end

  defmodule EarlyEndpoint do
    # Phoenix starts the drainers of sockets right after the servers, and here that is a request to them.
    use Phoenix.Endpoint, otp_app: :sample

    defmodule Drainer do
      use Sample.Probe

      @impl true
      def drainer_spec(_options), do: %{id: __MODULE__, start: {__MODULE__, :request, []}}

      def request do
        {path, test} = Application.fetch_env!(:sample, __MODULE__)
        {:ok, socket} = :gen_tcp.connect({:local, path}, 0, [:binary, active: false])
        send(test, {:early, request(socket, "GET", "/").status})
        :ignore
      end
    end

    socket "/socket", Drainer

    plug :hello

    defp hello(conn, _options), do: send_resp(conn, 200, "hello")
  end

  @config [
    adapter: PhoenixAdapter,
    server: true,
    url: [host: "localhost"],
    secret_key_base: String.duplicate("sample", 12),
    pubsub_server: Sample.PubSub,
    render_errors: [formats: [html: SampleWeb.ErrorHTML], layout: false]
  ]

  @version Application.spec(:ferrosock, :vsn)

  setup do
    Application.put_env(:sample, Endpoint, @config)
  end

  describe "an endpoint" do
    test "says where it runs, as Phoenix users know it" do
      log = start(http: [ip: {127, 0, 0, 1}, port: 0])
      {:ok, {{127, 0, 0, 1}, port}} = Endpoint.server_info(:http)

      at =
        "Running Sample.StartCase.Endpoint with Ferrosock #{@version} at 127.0.0.1:#{port} (http)"

      assert [line] = lines(log, "Running")
      assert line =~ at
      assert [_access] = lines(log, "Access Sample.StartCase.Endpoint at http://localhost")
      assert lines(log, "[warning]") == []
    end

    test "says it at the level that is asked for, or not at all" do
      assert [_line] = lines(start(http: [port: 0, startup_log: :notice]), "[notice] Running")
      stop_supervised!(Endpoint)
      assert lines(start(http: [port: 0, startup_log: false]), "Running") == []
    end

    test "serves HTTP and HTTPS, and its sockets by both" do
      made = Certificates.make()
      https = [ip: :loopback, port: 0, cert: made.cert, key: made.key, cipher_suite: :strong]
      log = start(http: [ip: :loopback, port: 0], https: https)
      assert [_http] = lines(log, ~r/Running .* \(http\)/)
      assert [_https] = lines(log, ~r/Running .* \(https\)/)

      {:ok, server} = PhoenixAdapter.server(Endpoint, :https)
      {:ok, socket} = connect_tls(server, cacerts: made.authorities, verify: :verify_peer)
      assert request(socket, "GET", "/").body == "https 443"
      assert handshake(socket, "/socket/websocket?vsn=2.0.0").status == 101

      {:ok, {_ip, port}} = Endpoint.server_info(:http)
      assert port |> connect() |> request("GET", "/") |> Map.fetch!(:body) == "http 80"
    end

    test "listens on a Unix socket, whatever its port is" do
      for more <- [[], [port: 0]] do
        path = tmp_path()
        log = start(http: [ip: {:local, path}] ++ more)
        assert [line] = lines(log, "Running")
        assert line =~ "with Ferrosock #{@version} at #{path} (http+unix)"
        assert Endpoint.server_info(:http) == {:ok, {:local, path}}

        {:ok, server} = PhoenixAdapter.server(Endpoint)
        assert server |> connect() |> request("GET", "/") |> Map.fetch!(:status) == 200
        socket = websocket(server, "/socket/websocket?vsn=2.0.0")
        assert Sample.Client.join(socket, "room:1") == {"ok", %{"room" => "1"}}
        :gen_tcp.close(socket)
        stop_supervised!(Endpoint)
      end
    end

    test "listens on IPv6 and IPv4" do
      for http <- [
            [:inet6, port: 0],
            [port: 0, net: :inet6],
            [port: 0, transport_options: [socket_opts: [:inet6]]],
            [port: 0, ip: {0, 0, 0, 0, 0, 0, 0, 0}]
          ] do
        log = start(http: http)
        {:ok, {{0, 0, 0, 0, 0, 0, 0, 0}, port}} = Endpoint.server_info(:http)
        assert [_line] = lines(log, "at [::]:#{port} (http)")
        {:ok, six} = :gen_tcp.connect(~c"::1", port, [:binary, :inet6, active: false])
        for socket <- [six, connect(port)], do: assert(request(socket, "GET", "/").status == 200)
        stop_supervised!(Endpoint)
      end
    end

    test "takes its port as a string and from the environment" do
      free = free_port()
      System.put_env("SAMPLE_PORT", "#{free}")

      for port <- ["#{free}", {:system, "SAMPLE_PORT"}] do
        start(http: [ip: :loopback, port: port])
        assert {:ok, {_ip, ^free}} = Endpoint.server_info(:http)
        stop_supervised!(Endpoint)
      end
    end

    test "warns once of what it ignores" do
      made = Certificates.make()

      log =
        start(
          http: [
            port: 0,
            http_options: [log_protocol_errors: false],
            thousand_island_options: [num_acceptors: 1, num_listen_sockets: 2],
            protocol_options: [idle_timeout: 5_000, logger: Some]
          ],
          https: [port: 0, ref: Some, cert: made.cert, key: made.key],
          drainer: false
        )

      assert [line] = lines(log, "[warning]")

      assert line =~
               "Ferrosock has nothing for these options of Sample.StartCase.Endpoint, and ignores them: " <>
                 ":log_protocol_errors in :http_options of :http, " <>
                 ":num_listen_sockets in :thousand_island_options of :http, " <>
                 ":logger in :protocol_options of :http, :ref of :https, :drainer. Its guide"
    end

    test "is drained for as long as the drainer of Plug.Cowboy says" do
      for {config, times} <- [
            {[drainer: [shutdown: 100]], 100},
            {[drainer: [shutdown: 100], http: [port: 0, shutdown_timeout: 200]], 200}
          ] do
        start([http: [port: 0]] |> Keyword.merge(config))
        {:ok, {_ip, port}} = Endpoint.server_info(:http)
        socket = websocket(port, "/socket/websocket?vsn=2.0.0")
        # The client never answers the close frame.
        {time, :ok} = :timer.tc(fn -> stop_supervised(Endpoint) end, :millisecond)
        assert time >= times and time < 5_000
        assert {:close, 1012, ""} = recv_frame(socket)
      end
    end

    test "is drained for the longest time where that drainer has no end" do
      config = [otp_app: :sample, http: [port: 0], drainer: [shutdown: :infinity]]
      assert [%{start: {_, _, [_, _, options]}}] = PhoenixAdapter.child_specs(Endpoint, config)
      assert options[:shutdown_timeout] == 4_294_967_295
    end

    test "that is not there has no server" do
      assert PhoenixAdapter.server(Endpoint) == {:error, :no_server_found}
      start(http: [port: 0])
      assert {:ok, server} = PhoenixAdapter.server(Endpoint)
      assert %{connections: 0} = Ferrosock.info(server)
      assert PhoenixAdapter.server(Endpoint, :https) == {:error, :no_server_found}
      assert Endpoint.server_info(:https) == {:error, :no_server_found}
    end
  end

  describe "an endpoint does not start" do
    test "where its port is in use, which is one line" do
      {:ok, taken} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(taken)

      {error, log} = failure(http: [ip: {127, 0, 0, 1}, port: port])
      assert error =~ "cannot listen on 127.0.0.1:#{port}: address already in use (:eaddrinuse)"

      assert [line] = log |> String.split("\n", trim: true)

      assert line =~
               "[error] Running Sample.StartCase.Endpoint with Ferrosock #{@version} at " <>
                 "127.0.0.1:#{port} (http) failed, port already in use"
    end

    test "with options that are wrong, and names them" do
      for {config, message} <- [
            {[http: [prot: 4000]], "(:http): unknown option :prot; known are :plug"},
            {[http: [port: 0], https: [port: 0, keyfile: 1]],
             "(:https): invalid value for option :keyfile: 1; accepted is"},
            {[http: [port: nil]], "(:http): invalid value for option :port: nil; accepted is"},
            {[http: [websocket_options: [max_lifetime: 0]]],
             "(:http): invalid value for option :max_lifetime in :websocket_options: 0"},
            {[http: [shutdown_code: 1005]],
             "(:http): invalid value for option :shutdown_code: 1005"},
            {[http: [thousand_island_options: [acceptors: 3]]],
             "(:http): unknown option :acceptors in :thousand_island_options"},
            {[http: [dispatch: [{:_, []}]]],
             "(:http): option :dispatch routes to handlers of Cowboy"},
            {[https: [port: 0]], "(:https): "},
            {[http: [port: 0], drainer: [shutdown: 0]],
             "(:http): invalid value for option :shutdown_timeout: 0"}
          ] do
        {error, _log} = failure(config)

        assert error =~ "** (ArgumentError) Sample.StartCase.Endpoint " <> message,
               inspect(config)
      end
    end
  end

  test "a request that comes while the endpoint starts is served" do
    path = tmp_path()
    Application.put_env(:sample, EarlyEndpoint, @config)
    Application.put_env(:sample, EarlyEndpoint.Drainer, {path, self()})
    start_supervised!({EarlyEndpoint, http: [ip: {:local, path}]})
    assert_received {:early, 200}
  end

  test "the code reloader compiles what has changed before a request is served" do
    alias SampleWeb.ReloadingEndpoint, as: Reloading
    folder = Path.join(Mix.Project.config()[:build_path], "reloaded")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    start_supervised!({Reloading, http: [ip: {127, 0, 0, 1}, port: 0]})
    {:ok, {_ip, port}} = Reloading.server_info(:http)

    for text <- ~w(first second) do
      File.write!(Path.join(folder, "reloaded.ex"), """
      defmodule Sample.Reloaded do
        def call(conn, []), do: Plug.Conn.send_resp(conn, 200, "#{text}, #{String.duplicate(".", 8)}")
      end
      """)

      assert port |> connect() |> request("GET", "/") |> Map.fetch!(:body) =~ text
    end
  end

  defp start(config),
    do: capture_log([level: :info], fn -> start_supervised!({Endpoint, config}) end)

  # The error in words, and what was logged as an error.
  defp failure(config) do
    Process.flag(:trap_exit, true)
    test = self()

    log =
      capture_log([level: :error], fn ->
        assert {:error, reason} = Endpoint.start_link(config)
        send(test, {:failed, Exception.format_exit(reason)})
      end)

    assert_received {:failed, error}
    {error, log}
  end

  defp lines(log, %Regex{} = pattern), do: Enum.filter(String.split(log, "\n"), &(&1 =~ pattern))
  defp lines(log, text), do: Enum.filter(String.split(log, "\n"), &String.contains?(&1, text))
end
