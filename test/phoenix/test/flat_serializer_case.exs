defmodule Sample.FlatSerializerCase do
  # What Phoenix encodes reaches each transport as one binary, and its client as the bytes that Phoenix's own
  # serializer would have made of it.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  alias Ferrosock.WebSocket.FlatSerializer
  alias Phoenix.Socket.{Broadcast, Message, Reply, V1, V2}

  defmodule OwnSerializer do
    @behaviour Phoenix.Socket.Serializer

    @impl true
    defdelegate fastlane!(broadcast), to: V2.JSONSerializer

    @impl true
    defdelegate encode!(message), to: V2.JSONSerializer

    @impl true
    defdelegate decode!(message, options), to: V2.JSONSerializer
  end

  defmodule Channel do
    use Phoenix.Channel

    @impl true
    def join("room:" <> _name, _params, socket), do: {:ok, %{}, socket}

    @impl true
    def handle_in("reply", payload, socket), do: {:reply, {:ok, payload}, socket}

    def handle_in("reply_binary", _payload, socket),
      do: {:reply, {:ok, {:binary, "replied"}}, socket}

    def handle_in("push", payload, socket) do
      push(socket, "pushed", payload)
      {:noreply, socket}
    end

    def handle_in("raise", _payload, _socket), do: raise("as asked for")
  end

  defmodule Socket do
    use Phoenix.Socket

    channel "room:*", Channel

    @impl true
    def connect(_params, socket, _info), do: {:ok, socket}

    @impl true
    def id(_socket), do: nil
  end

  defmodule Endpoint do
    use Phoenix.Endpoint, otp_app: :sample

    socket "/socket", Socket, websocket: true
    socket "/own", Socket, websocket: [serializer: [{OwnSerializer, "~> 2.0.0"}]]
  end

  defmodule PlainEndpoint do
    use Phoenix.Endpoint, otp_app: :sample

    socket "/socket", Socket, websocket: true
  end

  setup_all do
    for {endpoint, options} <- [{Endpoint, []}, {PlainEndpoint, [flat_serializer: false]}] do
      Application.put_env(:sample, endpoint,
        adapter: Ferrosock.PhoenixAdapter,
        http: [ip: {127, 0, 0, 1}, port: 0, websocket_options: options],
        pubsub_server: Sample.PubSub,
        server: true
      )

      start_supervised!(endpoint)
    end

    :ok
  end

  # One of each kind, with text that has to be escaped and some that fills more than a packet.
  @payloads [%{}, %{"text" => "<é\n\"\u2028>"}, %{"list" => Enum.to_list(1..5_000)}]

  describe "what the wrapper of" do
    for {name, serializer} <- [V1: V1.JSONSerializer, V2: V2.JSONSerializer] do
      @serializer serializer
      @wrapper Module.concat(FlatSerializer, name)

      test "#{inspect(serializer)} encodes is the same, as one binary" do
        for payload <- @payloads, {function, message} <- messages(payload) do
          {:socket_push, opcode, data} = apply(@serializer, function, [message])
          assert {:socket_push, ^opcode, flat} = apply(@wrapper, function, [message])
          assert flat == IO.iodata_to_binary(data)
        end
      end

      test "#{inspect(serializer)} decodes is the same" do
        for text <- [
              ~s(["1","2","room:a","e",{"k":1}]),
              ~s({"topic":"a","event":"e","payload":1,"ref":2})
            ] do
          assert same(:decode!, [text, [opcode: :text]], @wrapper, @serializer)
        end

        binary = <<0, 1, 1, 1, 1, "1", "2", "a", "e", "data">>
        assert same(:decode!, [binary, [opcode: :binary]], @wrapper, @serializer)
      end

      test "#{inspect(serializer)} raises is the same" do
        for {function, message} <- messages("no map") ++ messages(%{pid: self()}) do
          assert same(function, [message], @wrapper, @serializer)
        end

        long = %Broadcast{
          topic: String.duplicate("t", 256),
          event: "e",
          payload: {:binary, "data"}
        }

        assert same(:fastlane!, [long], @wrapper, @serializer)
      end
    end
  end

  describe "a socket of Phoenix's" do
    test "sends what Phoenix's serializer makes of a broadcast, a push, a reply, an error and bytes" do
      {client, _transport} = join("/socket/websocket?vsn=2.0.0", "room:bytes")
      payload = %{"text" => "<é>"}

      for {event, expected} <- [
            {"reply", %Reply{status: :ok, payload: payload}},
            {"reply_binary", %Reply{status: :ok, payload: {:binary, "replied"}}},
            {"push", %Message{event: "pushed", payload: payload}}
          ] do
        send_frame(client, :text, Jason.encode!(["1", "2", "room:bytes", event, payload]))
        expected = %{expected | topic: "room:bytes", join_ref: "1"}
        expected = if event == "push", do: expected, else: %{expected | ref: "2"}
        assert recv_frame(client) == frame_of(V2.JSONSerializer.encode!(expected))
      end

      for payload <- [{:binary, <<0, 255>>} | @payloads] do
        Endpoint.broadcast!("room:bytes", "said", payload)
        broadcast = %Broadcast{topic: "room:bytes", event: "said", payload: payload}
        assert recv_frame(client) == frame_of(V2.JSONSerializer.fastlane!(broadcast))
      end

      send_frame(client, :text, Jason.encode!(["1", "3", "room:bytes", "raise", %{}]))
      assert {:text, error} = recv_frame(client)
      assert ["1", _ref, "room:bytes", "phx_error", %{}] = Jason.decode!(error)
    end

    test "gets a broadcast as the one binary that all others get, too" do
      {client, transport} = join("/socket/websocket?vsn=2.0.0", "room:shared")
      {_other, other} = join("/socket/websocket?vsn=2.0.0", "room:shared")
      {_third, v1} = join("/socket/websocket?vsn=1.0.0", "room:shared")
      text = String.duplicate("shared ", 100)

      received =
        received([transport, other, v1], fn ->
          Endpoint.broadcast!("room:shared", "said", %{text: text})
          assert {:text, _text} = recv_frame(client)
        end)

      for transport <- [transport, other, v1] do
        assert {:socket_push, :text, data} = received[transport]
        assert is_binary(data) and data =~ text
      end

      assert serializers("room:shared") ==
               Enum.sort([FlatSerializer.V1, FlatSerializer.V2, FlatSerializer.V2])
    end

    test "keeps a serializer of the app's" do
      {client, transport} = join("/own/websocket?vsn=2.0.0", "room:own")
      assert serializers("room:own") == [OwnSerializer]

      received =
        received([transport], fn ->
          Endpoint.broadcast!("room:own", "said", %{text: "text"})
          assert {:text, text} = recv_frame(client)
          assert [nil, nil, "room:own", "said", %{"text" => "text"}] = Jason.decode!(text)
        end)

      assert {:socket_push, :text, [_ | _]} = received[transport]
    end

    test "keeps Phoenix's own where `flat_serializer` is off" do
      {_client, _transport} = join("/socket/websocket?vsn=2.0.0", "room:plain", PlainEndpoint)
      assert serializers("room:plain") == [V2.JSONSerializer]
    end
  end

  test "any other state of a handler stays as it is" do
    socket = %Phoenix.Socket{serializer: V2.JSONSerializer}

    assert {:channels, %{serializer: FlatSerializer.V2}} =
             FlatSerializer.flatten({:channels, socket})

    for state <- [
          nil,
          %{},
          socket,
          {socket, :channels},
          {:channels, socket, :more},
          {:channels, %{serializer: V2.JSONSerializer}},
          {:channels, %{socket | serializer: nil}},
          {:channels, %{socket | serializer: OwnSerializer}},
          {:channels, %{socket | serializer: FlatSerializer.V2}},
          {:channels, Map.delete(socket, :serializer)}
        ] do
      assert FlatSerializer.flatten(state) == state
    end
  end

  defp messages(payload) do
    [
      fastlane!: %Broadcast{topic: "room:a", event: "said", payload: payload},
      encode!: %Message{topic: "room:a", event: "said", payload: payload, ref: "2", join_ref: "1"},
      encode!: %Reply{topic: "room:a", status: :ok, payload: payload, ref: "2", join_ref: "1"}
    ]
  end

  defp same(function, arguments, wrapper, serializer),
    do: outcome(wrapper, function, arguments) == outcome(serializer, function, arguments)

  defp outcome(module, function, arguments) do
    with {:socket_push, opcode, data} <- apply(module, function, arguments),
         do: {:socket_push, opcode, IO.iodata_to_binary(data)}
  rescue
    error -> error
  end

  defp frame_of({:socket_push, opcode, data}), do: {opcode, IO.iodata_to_binary(data)}

  # A client that has joined, and the process of its WebSocket.
  defp join(path, topic, endpoint \\ Endpoint) do
    {:ok, {_address, port}} = endpoint.server_info(:http)
    client = websocket(port, path)
    before = transports(topic)

    message =
      if path =~ "vsn=1",
        do: %{topic: topic, event: "phx_join", payload: %{}, ref: "1"},
        else: ["1", "1", topic, "phx_join", %{}]

    send_frame(client, :text, Jason.encode!(message))
    assert {:text, joined} = recv_frame(client)
    assert joined =~ ~s("status":"ok")
    [transport] = transports(topic) -- before
    {client, transport}
  end

  defp transports(topic), do: for({transport, _serializer} <- fastlanes(topic), do: transport)

  defp serializers(topic),
    do: Enum.sort(for {_transport, serializer} <- fastlanes(topic), do: serializer)

  defp fastlanes(topic) do
    for {_channel, {:fastlane, transport, serializer, _intercepts}} <-
          Registry.lookup(Sample.PubSub, topic),
        do: {transport, serializer}
  end

  # What each of them is sent first while `fun` runs.
  defp received(pids, fun) do
    for pid <- pids, do: :erlang.trace(pid, true, [:receive])
    fun.()

    Map.new(pids, fn pid ->
      assert_receive {:trace, ^pid, :receive, {:socket_push, _opcode, _data} = message}
      {pid, message}
    end)
  end
end
