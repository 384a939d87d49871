defmodule Ferrosock.Boundary.PropertyTest do
  # Random calls over the boundary: whatever processes and clients do, in whatever order, each call
  # returns what `Ferrosock.Native` documents or raises `ArgumentError`, only documented messages
  # come, each last one is the last, and nothing is left in the end.
  #
  # Not async: it counts what is alive in the whole engine.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Raw

  alias Ferrosock.Native
  alias Ferrosock.Test.Census

  @sequences 200
  # How many of them at a time, as most of each is waiting.
  @at_once 8
  @steps 30

  defmodule Actor do
    @moduledoc """
    A process that calls the engine with what it has, and judges what it is answered and sent.

    What it has: handles, each with the tag of its connection, as other actors may have them too.
    """

    alias Ferrosock.Native

    defstruct listener: nil,
              listener_tag: nil,
              claims: [],
              tags: [],
              exchanges: [],
              sockets: [],
              # What was asked and is not answered: the call, and which answers are documented.
              asked: %{},
              # Tags of connections that this process has, and of those what has ended.
              attached: MapSet.new(),
              ended: MapSet.new()

    def start, do: spawn(fn -> loop(%__MODULE__{}) end)

    @doc "Has the actor run a function of its state, within a second."
    def run(actor, fun) do
      ref = make_ref()
      send(actor, {__MODULE__, self(), ref, fun})

      receive do
        {^ref, {:ok, result}} -> {:ok, result}
        {^ref, {:fault, fault}} -> raise fault
      after
        # The call itself may take a second; the process may have to wait for the machine.
        10_000 -> if Process.alive?(actor), do: raise("a call hangs"), else: :dead
      end
    end

    defp loop(state) do
      receive do
        {__MODULE__, from, ref, fun} -> from |> answer(ref, state, fun) |> loop()
      end
    end

    # What has come before is taken first.
    defp answer(from, ref, state, fun) do
      state = take_all(state)
      {result, state} = fun.(state)
      send(from, {ref, {:ok, result}})
      state
    rescue
      fault ->
        send(from, {ref, {:fault, fault}})
        state
    end

    defp take_all(state) do
      receive do
        message when elem(message, 0) != __MODULE__ -> state |> take(message) |> take_all()
      after
        0 -> state
      end
    end

    # The listener's messages: one to its owner, one to an acceptor.
    defp take(%{listener_tag: tag} = state, {tag, message}) do
      case message do
        {:connection, claim} when is_reference(claim) ->
          %{state | claims: [claim | state.claims]}

        {:http_error, {_ip, _port}, reason} when is_atom(reason) ->
          state

        {:accept_error, reason} when is_atom(reason) ->
          state
      end
    end

    defp take(state, {ref, message}) when is_map_key(state.asked, ref) do
      {{function, valid?}, asked} = Map.pop!(state.asked, ref)
      valid?.(message) || raise("undocumented answer to #{function}: #{inspect(message)}")
      %{state | asked: asked}
    end

    defp take(state, {tag, message} = received) when is_reference(tag) do
      tag in state.attached || raise("a message of no connection: #{inspect(received)}")
      tag not in state.ended || raise("a message after the last one: #{inspect(received)}")
      event(state, tag, message)
    end

    defp event(state, tag, :request), do: take_request(state, tag)
    defp event(state, tag, :closed), do: ended(state, tag)
    defp event(state, _tag, :idle), do: state
    defp event(state, _tag, {:paused, batches}) when batches > 0, do: state

    defp event(state, tag, [_ | _] = events) do
      {last, others} = List.pop_at(events, -1)
      Enum.all?(others, &message?/1) || raise("undocumented events #{inspect(events)}")

      cond do
        message?(last) -> state
        last?(last) -> ended(state, tag)
        true -> raise("undocumented event #{inspect(last)}")
      end
    end

    @doc "Takes what waits for the process that has the connection."
    def take_request(state, tag) do
      case Native.take(tag) do
        {:request, exchange, request} ->
          request!(request)
          got_exchange(state, exchange, tag)

        nothing when nothing in [:none, :closed] ->
          state
      end
    end

    defp ended(state, tag), do: %{state | ended: MapSet.put(state.ended, tag)}

    defp got_exchange(state, exchange, tag) when is_reference(exchange),
      do: %{state | exchanges: [{exchange, tag} | state.exchanges]}

    defp message?({opcode, data}),
      do: opcode in [:text, :binary, :ping, :pong] and is_binary(data)

    defp message?(_event), do: false

    def last?({:close, code, reason}),
      do: (code == nil or code in 1000..4999) and is_binary(reason)

    def last?({:error, code, reason}), do: code in [1002, 1007, 1009] and is_atom(reason)
    def last?({:closed, reason}), do: is_atom(reason)
    def last?(event), do: event in [:timeout, :max_lifetime]

    defp request!({method, host, port, path, query, version, headers, {_ip, _port}})
         when is_binary(method) and is_binary(host) and (is_integer(port) or port == nil) and
                is_binary(path) and is_binary(query) and version in [:"HTTP/1.0", :"HTTP/1.1"] and
                is_list(headers),
         do: :ok

    @doc "Calls, and checks what comes back and how fast. Gives the result, or `:raised`."
    def call(state, function, arguments, valid?) do
      {time, result} =
        :timer.tc(fn ->
          try do
            apply(Native, function, arguments)
          rescue
            ArgumentError -> :raised
          end
        end)

      called = "#{function}(#{Enum.map_join(arguments, ", ", &inspect(&1, limit: 5))})"
      time < 1_000_000 || raise("#{called} took #{time} µs")
      (result == :raised or valid?.(result)) || raise("#{called} returned #{inspect(result)}")
      {result, state}
    end

    @doc "The same for a call that is answered by a message, unless it returns otherwise."
    def ask(state, function, arguments, {valid?, answered, valid_answer?}) do
      ref = make_ref()
      {result, state} = call(state, function, arguments ++ [ref], valid?)

      if result == answered,
        do: {result, put_in(state.asked[ref], {function, valid_answer?})},
        else: {result, state}
    end
  end

  setup do: Census.await_nothing()

  @tag timeout: 300_000
  test "#{@sequences} random sequences of calls keep to what is documented and leave nothing" do
    seed = seed()
    descriptors = Census.descriptors()

    for sequences <- Enum.chunk_every(1..@sequences, @at_once) do
      sequences
      |> Enum.map(&Task.async(fn -> run_sequence(seed, &1) end))
      |> Task.await_many(60_000)

      told = "left behind by sequences #{inspect(sequences)} of FERROSOCK_SEED=#{seed}"
      settles(fn -> Native.stats() == Census.nothing() end, told)
      settles(fn -> Census.descriptors() <= descriptors end, told)
    end
  end

  defp run_sequence(seed, sequence) do
    :rand.seed(:exsss, {seed, sequence, 0})
    run_sequence()
  rescue
    fault ->
      message = """
      sequence #{sequence} of FERROSOCK_SEED=#{seed}: #{Exception.message(fault)}

      #{Enum.map_join(Enum.reverse(Process.get(:steps)), "\n", &inspect/1)}
      """

      reraise ExUnit.AssertionError, [message: message], __STACKTRACE__
  end

  defp seed do
    case System.get_env("FERROSOCK_SEED") do
      nil -> :rand.uniform(1_000_000_000)
      seed -> String.to_integer(seed)
    end
  end

  # A listener, its owner and three more processes, up to some clients, and random steps.
  defp run_sequence do
    Process.put(:steps, [])
    actors = [owner | _] = for _ <- 1..4, do: Actor.start()
    monitors = for actor <- actors, do: Process.monitor(actor)
    {:ok, {listener, tag, port}} = Actor.run(owner, &open/1)

    for actor <- actors do
      Actor.run(actor, fn state -> {:ok, %{state | listener: listener, listener_tag: tag}} end)
    end

    {:ok, :ok} = Actor.run(Enum.at(actors, 1), &call(&1, :listener_accept))
    none = MapSet.new()

    world = %{
      actors: actors,
      clients: [],
      port: port,
      # Tags of connections: that a process has, that became WebSockets, that did so after a process
      # had them, and whose WebSocket a process closed or dropped.
      attached: none,
      upgraded: none,
      attached_first: none,
      let_go: none
    }

    world = world |> step(:connect) |> step(:request)
    world = Enum.reduce(1..@steps, world, fn _, world -> step(world, pick_step()) end)

    Enum.each(world.clients, &:gen_tcp.close/1)
    settle(Enum.filter(actors, &Process.alive?/1), world)
    Enum.each(actors, &Process.exit(&1, :kill))
    for monitor <- monitors, do: assert_receive({:DOWN, ^monitor, _, _, :killed})
    # The listener's handle is one of this process's too.
    :erlang.garbage_collect()
  end

  # The clients are gone: what was asked is answered, and each connection has its last message, but
  # for the sockets that processes ended themselves.
  defp settle(actors, world) do
    for actor <- actors do
      settles(
        fn -> match?({:ok, none} when none == %{}, Actor.run(actor, &{&1.asked, &1})) end,
        "a call is not answered"
      )
    end

    expected = MapSet.difference(world.attached_first, world.let_go)

    for actor <- actors,
        do: settles(fn -> told?(actor, expected) end, "a socket has no last event")

    # What was shared went through this process.
    :erlang.garbage_collect()

    for actor <- actors do
      Actor.run(actor, &{:ok, %{&1 | claims: [], exchanges: [], sockets: []}})
      :erlang.garbage_collect(actor)
    end

    for actor <- actors do
      {:ok, attached} = Actor.run(actor, &{&1.attached, &1})
      expected = MapSet.difference(attached, world.upgraded)
      settles(fn -> told?(actor, expected) end, "a connection has no last message")
    end
  end

  # A process that answers no batch hears no more, so that this answers one. The same goes for a request
  # that it was not told of: it would have asked.
  defp told?(actor, expected) do
    {:ok, told?} =
      Actor.run(actor, fn state ->
        for {socket, _tag} <- state.sockets, do: Native.socket_ack(socket, [])
        for tag <- state.attached, do: Native.take(tag)
        :erlang.garbage_collect()
        mine = MapSet.intersection(state.attached, expected)
        {MapSet.subset?(mine, state.ended), state}
      end)

    told?
  end

  defp open(state) do
    options =
      listener_options(
        header_timeout: 300,
        idle_timeout: 300,
        max_request_line_length: 1_000,
        max_header_length: 10_000,
        max_header_count: 20,
        max_requests: Enum.random([0, 0, 2]),
        high_water_mark: Enum.random([1, 1_000, 1_000_000])
      )

    {:ok, listener, tag} = Native.listener_open(options, nil)
    {_ip, port} = Native.listener_info(listener).address
    {{listener, tag, port}, %{state | listener: listener, listener_tag: tag}}
  end

  # Steps, and how often they are to come.
  @weights [
    connect: 2,
    request: 8,
    websocket: 6,
    frames: 14,
    bytes: 2,
    read: 6,
    leave: 3,
    accept: 3,
    attach: 8,
    take: 2,
    ending: 2,
    resume: 2,
    respond: 8,
    start: 2,
    stream: 5,
    chunk: 4,
    finish: 3,
    abort: 1,
    await: 3,
    read_body: 6,
    inform: 3,
    send_file: 3,
    sock: 2,
    upgrade: 6,
    send: 14,
    ack: 14,
    await_socket: 6,
    close: 3,
    abort_socket: 2,
    wrong: 4,
    share: 6,
    forget: 3,
    kill: 1,
    info: 1,
    close_listener: 1,
    pause: 3
  ]
  # What a process must have for a step.
  @needs Map.merge(
           Map.new([:respond, :start, :chunk, :finish, :abort, :await], &{&1, :exchanges}),
           Map.new([:read_body, :inform, :send_file, :sock, :upgrade], &{&1, :exchanges})
         )
         |> Map.merge(
           Map.new(
             [:send, :ack, :await_socket, :ending, :resume, :close, :abort_socket],
             &{&1, :sockets}
           )
         )
         |> Map.merge(%{attach: :claims, take: :tags})

  @steps_by_weight Enum.flat_map(@weights, fn {step, weight} -> List.duplicate(step, weight) end)

  defp pick_step, do: Enum.random(@steps_by_weight)

  defp step(world, step) do
    Process.put(:steps, [step | Process.get(:steps)])
    do_step(step, world)
  end

  # What clients do. A server that has closed is no fault of theirs.

  defp do_step(:connect, world) do
    case :gen_tcp.connect({127, 0, 0, 1}, world.port, [:binary, active: false], 1_000) do
      {:ok, client} -> %{world | clients: [client | world.clients]}
      {:error, _closed} -> world
    end
  end

  defp do_step(:stream, world),
    do: Enum.reduce([:start, :chunk, :chunk, :chunk, :await], world, &do_step/2)

  # The most of what a WebSocket needs; whether it comes to one is left to chance.
  defp do_step(:websocket, world) do
    world = do_step(:connect, world)
    deflate = [{"sec-websocket-extensions", "permessage-deflate"} | handshake_headers()]
    with [client | _] <- world.clients, do: :gen_tcp.send(client, head("GET", "/", deflate))
    pause(3)
    world = do_step(:upgrade, do_step(:attach, world))
    if :rand.uniform(3) > 1, do: do_step(:ack, world), else: world
  end

  defp do_step(:request, world), do: client_sends(world, random_request())
  defp do_step(:frames, world), do: client_sends(world, random_frames())
  defp do_step(:bytes, world), do: client_sends(world, :rand.bytes(:rand.uniform(100)))

  defp do_step(:read, world),
    do: with_client(world, fn client -> :gen_tcp.recv(client, 0, 1) end)

  defp do_step(:leave, world) do
    with_client(world, fn client ->
      # To close is a reset with the second.
      :inet.setopts(client, linger: Enum.random([{false, 0}, {true, 0}]))
      Enum.random([&:gen_tcp.close/1, &:gen_tcp.close/1, &:gen_tcp.shutdown(&1, :write)]).(client)
    end)
  end

  defp do_step(:pause, world) do
    pause(Enum.random([1, 5, 20]))
    world
  end

  # What processes do.

  defp do_step(:kill, world) do
    actor = Enum.random(world.actors)

    with true <- :rand.uniform(3) == 1 and Process.alive?(actor),
         {:ok, tags} <- Actor.run(actor, &{socket_tags(&1), &1}) do
      Process.exit(actor, :kill)
      let_go(world, tags)
    else
      _dead -> world
    end
  end

  defp do_step(:share, world) do
    kind = Enum.random([:claims, :tags, :exchanges, :sockets])

    with {:ok, [_ | _] = handles} <- run(world, &{Map.fetch!(&1, kind), &1}) do
      handle = Enum.random(handles)
      run(world, &{:ok, Map.update!(&1, kind, fn handles -> [handle | handles] end)})
    end

    world
  end

  defp do_step(:forget, world) do
    actor = Enum.random(world.actors)
    kind = Enum.random([:claims, :exchanges, :sockets])

    with true <- Process.alive?(actor),
         {:ok, tags} <- Actor.run(actor, &{socket_tags(&1), Map.put(&1, kind, [])}) do
      :erlang.garbage_collect(actor)
      if kind == :sockets, do: let_go(world, tags), else: world
    else
      _dead -> world
    end
  end

  defp do_step(step, world) do
    seed = random_seed()

    case run(world, @needs[step], &call(&1, step, seed)) do
      {:ok, {:attached, tag}} -> update_in(world.attached, &MapSet.put(&1, tag))
      {:ok, {:upgraded, tag}} -> upgraded(world, tag)
      {:ok, {:let_go, tag}} -> let_go(world, [tag])
      _other -> world
    end
  end

  defp upgraded(world, tag) do
    world = update_in(world.upgraded, &MapSet.put(&1, tag))

    if tag in world.attached,
      do: update_in(world.attached_first, &MapSet.put(&1, tag)),
      else: world
  end

  defp let_go(world, tags), do: update_in(world.let_go, &MapSet.union(&1, MapSet.new(tags)))
  defp socket_tags(state), do: for({_socket, tag} <- state.sockets, do: tag)

  defp random_seed, do: :rand.uniform(1_000_000_000)

  # By one of those that have what it needs.
  defp run(world, needs \\ nil, fun) do
    able = fn actor -> Actor.run(actor, &{Map.get(&1, needs, []) != [], &1}) == {:ok, true} end
    alive = world.actors |> Enum.shuffle() |> Enum.filter(&Process.alive?/1)

    case Enum.find(alive, able) || List.first(alive) do
      nil -> :dead
      actor -> Actor.run(actor, fun)
    end
  end

  # The choices of a call come from this process, so that they repeat.
  defp call(state, step, seed) do
    :rand.seed(:exsss, seed)
    call(state, step)
  end

  defp call(state, step) when step in [:accept, :listener_accept],
    do: Actor.call(state, :listener_accept, [state.listener], &(&1 in [:ok, {:error, :closed}]))

  defp call(state, :info) do
    Actor.call(state, :listener_info, [state.listener], fn info ->
      info |> Map.keys() |> Enum.sort() ==
        [:accepted, :address, :bytes_received, :bytes_sent, :connections, :lingering] ++
          [:queued_bytes, :requests]
    end)
  end

  defp call(state, :close_listener) do
    case :rand.uniform(8) do
      1 ->
        Actor.call(state, :listener_close, [state.listener], &(&1 == :ok))

      2 ->
        Actor.ask(state, :listener_drain, [state.listener], {&(&1 == :ok), :ok, &(&1 == :closed)})

      _ ->
        {:ok, state}
    end
  end

  defp call(state, :attach) do
    with_handle(state, state.claims, fn claim ->
      valid? = &(&1 == :gone or match?({:ok, tag} when is_reference(tag), &1))

      case Actor.call(state, :attach, [claim], valid?) do
        {{:ok, tag}, state} ->
          attached = MapSet.put(state.attached, tag)
          state = %{state | attached: attached, tags: [tag | state.tags]}
          {{:attached, tag}, Actor.take_request(state, tag)}

        result ->
          result
      end
    end)
  end

  defp call(state, :take) do
    with_handle(state, state.tags, fn tag -> {:ok, Actor.take_request(state, tag)} end)
  end

  defp call(state, :ending) do
    with_handle(state, state.sockets, fn {socket, _tag} ->
      Actor.call(state, :socket_ending, [socket], &(&1 in [:none, :soon] or Actor.last?(&1)))
    end)
  end

  # More than there were, too.
  defp call(state, :resume) do
    with_handle(state, state.sockets, fn {socket, _tag} ->
      batches = Enum.random([0, 1, 2, 10])
      Actor.call(state, :socket_resume, [socket, batches], &(&1 == :ok))
    end)
  end

  defp call(state, :respond) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      arguments = [exchange, random_status(), random_headers(), random_data()]
      Actor.call(state, :exchange_respond, arguments, &sent?/1)
    end)
  end

  defp call(state, :start) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      Actor.call(state, :exchange_start, [exchange, random_status(), random_headers()], &sent?/1)
    end)
  end

  defp call(state, :chunk) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      valid? = &(&1 in [:ok, :full, {:error, :closed}])
      result = Actor.call(state, :exchange_chunk, [exchange, random_data()], valid?)
      await_if_full(result, :exchange_await, exchange)
    end)
  end

  defp call(state, step) when step in [:finish, :abort] do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      Actor.call(state, :"exchange_#{step}", [exchange], &(&1 == :ok))
    end)
  end

  defp call(state, :await) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      Actor.ask(state, :exchange_await, [exchange], awaited())
    end)
  end

  defp call(state, :read_body) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      length = Enum.random([1, 10, 100_000])
      timeout = Enum.random([1, 50, :infinity])
      Actor.ask(state, :exchange_read, [exchange, length, timeout], {&(&1 == :ok), :ok, &read?/1})
    end)
  end

  defp call(state, :inform) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      status = Enum.random([100, 102, 103, 199, 101, 200, 0])
      valid? = &(sent?(&1) or &1 == {:error, :not_supported})
      Actor.call(state, :exchange_inform, [exchange, status, random_headers()], valid?)
    end)
  end

  defp call(state, :send_file) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      path = Enum.random([__ENV__.file, __ENV__.file, "/nowhere", "/", "/dev/null", ""])
      range = Enum.random([[0, 10], [100, 1_000], [5, 0], [1_000_000_000, 1], [0, 1_000_000_000]])
      arguments = [exchange, random_status(), random_headers(), path | range]
      returned? = &(&1 == :ok or match?({:error, {:invalid_header, _}}, &1))
      answer? = &(sent?(&1) or match?({:error, posix} when is_atom(posix), &1))
      Actor.ask(state, :exchange_send_file, arguments, {returned?, :ok, answer?})
    end)
  end

  defp call(state, :sock) do
    with_handle(state, state.exchanges, fn {exchange, _tag} ->
      Actor.call(state, :exchange_sock, [exchange], &match?({{127, 0, 0, 1}, _port}, &1))
    end)
  end

  defp call(state, :upgrade) do
    with_handle(state, state.exchanges, fn {exchange, tag} ->
      valid? =
        &(match?({:ok, socket} when is_reference(socket), &1) or
            (&1 != :ok and sent?(&1)) or &1 == {:error, :not_supported})

      arguments = [exchange, random_headers(), random_socket_options()]

      case Actor.call(state, :exchange_upgrade, arguments, valid?) do
        {{:ok, socket}, state} ->
          {{:upgraded, tag}, %{state | sockets: [{socket, tag} | state.sockets]}}

        result ->
          result
      end
    end)
  end

  defp call(state, step) when step in [:send, :ack] do
    with_handle(state, state.sockets, fn {socket, _tag} ->
      valid? = &(&1 in [:ok, :full, :ended, :closed])
      result = Actor.call(state, :"socket_#{step}", [socket, random_messages()], valid?)
      await_if_full(result, :socket_await, socket)
    end)
  end

  defp call(state, :await_socket) do
    with_handle(state, state.sockets, fn {socket, _tag} ->
      Actor.ask(state, :socket_await, [socket], awaited())
    end)
  end

  defp call(state, :close) do
    with_handle(state, state.sockets, fn {socket, tag} ->
      code = Enum.random([nil, 1000, 1011, 4999])
      {:ok, state} = Actor.call(state, :socket_close, [socket, code, "bye"], &(&1 == :ok))
      {{:let_go, tag}, state}
    end)
  end

  defp call(state, :abort_socket) do
    with_handle(state, state.sockets, fn {socket, _tag} ->
      Actor.call(state, :socket_abort, [socket], &(&1 == :ok))
    end)
  end

  # Any handle, or none, for any call: it raises.
  defp call(state, :wrong) do
    any = Enum.concat([[state.listener, make_ref(), :no], state.tags, handles(state)])
    listener? = &(&1 == state.listener)
    [handle, other] = for _ <- 1..2, do: Enum.random(any)

    {function, arguments} =
      Enum.random([
        {:listener_info, [unless(listener?.(handle), do: handle)]},
        {:attach, [unless(handle in state.claims, do: handle)]},
        {:take, [unless(handle in state.tags, do: handle)]},
        {:refuse, [unless(handle in state.claims, do: handle)]},
        {:exchange_respond, [other, 200, [:no], ""]},
        {:exchange_respond, [other, 70_000, [], ""]},
        {:exchange_chunk, [other, [256]]},
        {:exchange_read, [other, -1, 1, make_ref()]},
        {:exchange_upgrade, [other, [], %{}]},
        {:exchange_await, [other, :no]},
        {:socket_send, [other, [{:close, ""}]]},
        {:socket_ack, [other, [{:text, "a"} | :improper]]},
        {:socket_close, [other, 1000, String.duplicate("x", 124)]},
        {:socket_await, [other, :no]}
      ])

    Actor.call(state, function, arguments, &(&1 == :raised))
  end

  defp await_if_full({:full, state}, await, handle),
    do: Actor.ask(state, await, [handle], awaited())

  defp await_if_full(result, _await, _handle), do: result

  defp handles(state), do: for({handle, _tag} <- state.exchanges ++ state.sockets, do: handle)

  defp with_handle(state, [], _fun), do: {:none, state}

  # Mostly the newest, with which there is most to do.
  defp with_handle(_state, handles, fun),
    do: fun.(Enum.random([hd(handles), hd(handles), Enum.random(handles)]))

  defp sent?(:ok), do: true
  defp sent?({:error, {:invalid_header, name}}), do: is_binary(name)
  defp sent?({:error, reason}), do: reason in [:closed, :already_sent, :invalid_status]
  defp sent?(_result), do: false

  defp read?({tag, data}) when tag in [:ok, :more], do: is_binary(data)
  defp read?({:error, reason}), do: reason in [:timeout, :closed, :malformed, :already_reading]
  defp read?(_answer), do: false

  defp awaited, do: {&(&1 in [:ok, :wait]), :wait, &(&1 in [:drained, :closed])}

  # What is sent.

  defp client_sends(world, data) do
    with_client(world, fn client ->
      # A part of it now and then, which the next step may complete or not.
      data = IO.iodata_to_binary(data)
      length = Enum.random([byte_size(data), byte_size(data), :rand.uniform(byte_size(data))])
      :inet.setopts(client, send_timeout: 100)
      :gen_tcp.send(client, binary_part(data, 0, length))
    end)
  end

  defp with_client(%{clients: []} = world, _fun), do: world

  defp with_client(world, fun) do
    fun.(Enum.random(world.clients))
    world
  end

  defp random_request do
    upgrade = head("GET", "/ws", handshake_headers())
    deflate = [{"sec-websocket-extensions", "permessage-deflate"} | handshake_headers()]

    Enum.random([
      upgrade,
      upgrade,
      head("GET", "/ws", deflate),
      [upgrade, random_frames()],
      head("GET", "/"),
      [head("GET", "/1"), head("GET", "/2")],
      head("HEAD", "/"),
      "GET / HTTP/1.0\r\n\r\n",
      [head("POST", "/", [{"content-length", "10"}]), "0123456789"],
      [head("POST", "/", [{"content-length", "100"}]), "half"],
      [head("POST", "/", [{"transfer-encoding", "chunked"}]), "3\r\nabc\r\n0\r\n\r\n"],
      head("POST", "/", [{"expect", "100-continue"}, {"content-length", "5"}]),
      "GET / HTTP/1.1\r\n\r\n"
    ])
  end

  defp random_frames, do: for(_ <- 1..Enum.random([1, 1, 3, 50]), do: random_frame())

  defp random_frame do
    {opcode, payload, options} =
      Enum.random([
        {:text, "hello", []},
        {:binary, "", []},
        {:binary, :binary.copy("x", Enum.random([10, 10, 10, 70_000])), []},
        {:text, "half", fin: false},
        {:continuation, "half", []},
        {:ping, "ping", []},
        {:pong, "pong", []},
        # "Hello", compressed.
        {:text, <<0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00>>, rsv: 4},
        {:text, <<255>>, []},
        {:close, Enum.random([<<1000::16>>, "", <<3>>]), []}
      ])

    frame(opcode, payload, options)
  end

  defp random_status, do: Enum.random([200, 200, 200, 200, 200, 204, 304, 404, 101, 99, 1_000])

  defp random_headers do
    Enum.random([
      [],
      [],
      [],
      [],
      [],
      [{"x-header", "value"}],
      [{"x-header", "value"}],
      [{"content-length", "5"}],
      [{"content-length", "five"}],
      [{"connection", "close"}],
      [{"transfer-encoding", "chunked"}],
      [{"bad\nname", ""}],
      [{"bad", "value\r\n"}]
    ])
  end

  defp random_data,
    do: Enum.random(["", "hello", ["io", [?d], "ata"], :binary.copy("x", 100_000)])

  defp random_messages do
    for _ <- 1..Enum.random([0, 1, 1, 5])//1 do
      Enum.random([
        {:text, "hello"},
        {:binary, nil},
        {:ping, ["p"]},
        {:pong, ""},
        {:text, :binary.copy("large ", 20_000)},
        {:binary, :binary.copy("very large ", 100_000)}
      ])
    end
  end

  defp random_socket_options do
    %{
      timeout: Enum.random([:infinity, 30, 1_000]),
      ping_interval: Enum.random([:infinity, 10]),
      ping_timeout: 20,
      max_lifetime: Enum.random([:infinity, :infinity, 50]),
      hibernate_after: Enum.random([:infinity, 10]),
      close_timeout: 100,
      max_frame_size: Enum.random([:infinity, 1_000]),
      max_fragments: 5,
      validate_utf8: Enum.random([true, false]),
      control_events: Enum.random([true, false]),
      high_water_mark: Enum.random([1, 1_000_000]),
      send_timeout: 15_000,
      deflate: Enum.random([nil, random_deflate_options()])
    }
  end

  defp random_deflate_options do
    %{
      level: Enum.random([1, 9]),
      mem_level: 8,
      window_bits: Enum.random([9, 15]),
      client_window_bits: 12,
      server_context_takeover: Enum.random([true, false]),
      client_context_takeover: Enum.random([true, false]),
      threshold: Enum.random([0, 100]),
      cache: Enum.random([true, false])
    }
  end

  # What comes meanwhile may come, or not.
  defp pause(ms), do: Process.sleep(ms)

  defp settles(fun, fault) do
    eventually(fun)
  rescue
    ExUnit.AssertionError ->
      raise "#{fault}: #{inspect(Native.stats())}, #{Census.descriptors()} descriptors"
  end
end
