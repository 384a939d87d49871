defmodule Ferrosock.Server.StartTest do
  # What a server is given at its start: wrong things are refused there, in one sentence.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  defmodule Hello do
    def init(options), do: options
    def call(conn, _options), do: Plug.Conn.send_resp(conn, 200, "hello")
  end

  defmodule NoCall do
    def init(options), do: options
  end

  defmodule NoInit do
    def call(conn, _options), do: conn
  end

  @quiet [port: 0, ip: :loopback, startup_log: false]

  test "an :id is the child specification's, and start_link/1 takes it" do
    assert Ferrosock.child_spec(plug: Hello, id: :web).id == :web
    assert Ferrosock.child_spec(plug: Hello, name: Web).id == Web
    assert Ferrosock.child_spec(plug: Hello).id == Ferrosock
    assert {:ok, server} = Ferrosock.start_link([plug: Hello, id: :web] ++ @quiet)
    assert %{status: 200} = request(connect(server), "GET", "/")
    Supervisor.stop(server)
  end

  for argument <- [Hello, {Hello, []}, "plug", [Hello], %{plug: Hello}, [{"plug", Hello}]] do
    test "#{inspect(argument)} for the options shows the right form" do
      argument = unquote(Macro.escape(argument))

      for start <- [&Ferrosock.child_spec/1, &Ferrosock.start_link/1] do
        assert_raise ArgumentError, ~r/{Ferrosock, plug: MyApp.Router, port: 4000}, got: /, fn ->
          start.(argument)
        end
      end
    end
  end

  for {options, text} <- [
        {[plug: NoCall], ":plug needs a Plug, but #{inspect(NoCall)} has no function call/2"},
        {[plug: {NoInit, 1}],
         ":plug needs a Plug, but #{inspect(NoInit)} has no function init/1"},
        {[plug: NoSuch], ":plug needs a Plug, but the module NoSuch cannot be loaded"},
        {[sock: NoSuch], ":sock needs a Sock, but the module NoSuch cannot be loaded"},
        {[sock: {NoCall, 1}],
         ":sock needs a Sock, but #{inspect(NoCall)} has no function negotiate/2"},
        {[plug: Hello, name: "web"],
         "invalid value for option :name: \"web\"; accepted is an atom"},
        {[plug: Hello, name: {:via, 1, 2}], "accepted is an atom, `{:global, term}` or `{:via, "}
      ] do
    test "#{inspect(options)} is refused" do
      error =
        assert_raise ArgumentError, fn ->
          Ferrosock.start_link(unquote(Macro.escape(options)) ++ @quiet)
        end

      assert error.message =~ unquote(text)
    end
  end

  for {websock, text} <- [
        {NoSuch, "the upgrade needs a WebSock, but the module NoSuch cannot be loaded"},
        {Hello, "the upgrade needs a WebSock, but #{inspect(Hello)} has no function handle_in/2"}
      ] do
    @tag :capture_log
    test "an upgrade to #{inspect(websock)} fails inside the Plug" do
      test = self()

      server =
        serve(fn conn ->
          error =
            assert_raise ArgumentError, fn -> Ferrosock.upgrade(conn, unquote(websock), nil) end

          send(test, {:error, error.message})
          Plug.Conn.send_resp(conn, 200, "")
        end)

      assert %{status: 200} = server |> connect() |> handshake()
      assert_receive {:error, unquote(text)}
    end
  end
end
