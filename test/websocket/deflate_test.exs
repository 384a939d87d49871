defmodule Ferrosock.WebSocket.DeflateTest do
  # permessage-deflate as bytes (RFC7692), with Erlang's zlib as the judge.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Probe, only: [down: 1, sync: 1, waits_for_client?: 1]
  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Probe

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  # A frame with RSV1 set.
  @compressed [rsv: 4]
  # What a flush ends with, and a message leaves out (RFC7692§7.2.1).
  @tail <<0, 0, 255, 255>>
  @offer "permessage-deflate"

  describe "compression is agreed on" do
    test "when the server, the upgrade and the client want it" do
      for server <- [true, false], upgrade <- [true, false], client <- [true, false] do
        limits = [websocket_options: [compress: server]]
        socket = connect(serve!([], [compress: upgrade], limits))
        response = handshake(socket, "/", if(client, do: offer(@offer), else: []))
        assert response.status == 101

        agreed = server and upgrade and client
        assert extensions(response) == if(agreed, do: [@offer], else: [])
        send_frame(socket, :text, text(1_000))
        assert {^agreed, :text, payload} = recv(socket)
        assert if(agreed, do: inflate(payload), else: payload) == text(1_000)
      end
    end

    test "by default only where the upgrade asks for it" do
      assert extensions(handshake(connect(serve!([], [])), "/", offer(@offer))) == []
    end

    test "and only by us: the app's own header does not go out" do
      for {options, expected} <- [{[compress: true], [@offer]}, {[], []}] do
        plug = fn conn ->
          conn
          |> Plug.Conn.put_resp_header("sec-websocket-extensions", "permessage-app")
          |> Ferrosock.upgrade(Socket, Ferrosock.Test.Probe.state([]), options)
        end

        response = handshake(connect(serve(plug)), "/", offer(@offer))
        assert response.status == 101
        assert extensions(response) == expected
      end
    end

    for {offer, answer} <- [
          {"permessage-deflate", "permessage-deflate"},
          {"permessage-deflate; server_no_context_takeover",
           "permessage-deflate; server_no_context_takeover"},
          {"permessage-deflate; client_no_context_takeover",
           "permessage-deflate; client_no_context_takeover"},
          {"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
           "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
          {"permessage-deflate; client_max_window_bits",
           "permessage-deflate; client_max_window_bits=12"},
          {"permessage-deflate; client_max_window_bits=15",
           "permessage-deflate; client_max_window_bits=12"},
          {"permessage-deflate; client_max_window_bits=10",
           "permessage-deflate; client_max_window_bits=10"},
          {"permessage-deflate; client_max_window_bits=8",
           "permessage-deflate; client_max_window_bits=8"},
          {"permessage-deflate; server_max_window_bits=9",
           "permessage-deflate; server_max_window_bits=9"},
          {"permessage-deflate; server_max_window_bits=10",
           "permessage-deflate; server_max_window_bits=10"},
          {"permessage-deflate; server_max_window_bits=15",
           "permessage-deflate; server_max_window_bits=15"},
          {"permessage-deflate; server_max_window_bits=\"11\"",
           "permessage-deflate; server_max_window_bits=11"},
          {"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
           "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"},
          {"permessage-deflate ; client_max_window_bits = 9 ",
           "permessage-deflate; client_max_window_bits=9"},
          # The first acceptable offer of several.
          {"permessage-bzip2, permessage-deflate", "permessage-deflate"},
          {"permessage-deflate; server_max_window_bits=8, permessage-deflate",
           "permessage-deflate"},
          {"permessage-deflate; foo, permessage-deflate; server_max_window_bits=10, permessage-deflate",
           "permessage-deflate; server_max_window_bits=10"},
          {"foo; bar=\"a, permessage-deflate\", permessage-deflate; client_no_context_takeover",
           "permessage-deflate; client_no_context_takeover"}
        ] do
      test "by the offer `#{offer}`, and works" do
        {socket, [unquote(answer)]} = negotiated(unquote(offer))
        inflater = inflater(bits(unquote(answer), "server"))
        deflater = deflater(max(9, bits(unquote(answer), "client")))

        # Its repetitions are further apart than a small window reaches.
        far = String.duplicate(text(3_000), 30)

        for message <- [text(500), far, text(500)] do
          if unquote(answer) =~ "client_no_context", do: :zlib.deflateReset(deflater)
          send_compressed(socket, :text, deflate(deflater, message))
          assert {true, :text, payload} = recv(socket)
          assert inflate(payload, inflater) == message
        end
      end
    end

    for offer <- [
          "",
          "permessage-bzip2",
          "Permessage-Deflate",
          "permessage-deflate; foo",
          "permessage-deflate; max_inflate_ratio=10",
          "permessage-deflate; server_max_window_bits",
          "permessage-deflate; server_max_window_bits=8",
          "permessage-deflate; server_max_window_bits=7",
          "permessage-deflate; server_max_window_bits=16",
          "permessage-deflate; server_max_window_bits=010",
          "permessage-deflate; server_max_window_bits=15x",
          "permessage-deflate; client_max_window_bits=16",
          "permessage-deflate; client_max_window_bits=",
          "permessage-deflate; server_no_context_takeover=true",
          "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
          "permessage-deflate; server_max_window_bits=\"10",
          "permessage-deflate;",
          "permessage-deflate; =10",
          "permessage-deflate=1",
          ";,;,="
        ] do
      test "not by the offer `#{offer}`: messages go as they are" do
        {socket, []} = negotiated(unquote(offer))
        send_frame(socket, :text, text(1_000))
        assert recv(socket) == {false, :text, text(1_000)}
      end
    end

    test "by an offer in the second of two headers" do
      headers = offer("permessage-deflate; foo") ++ offer(@offer)
      response = handshake(connect(serve!([], compress: true)), "/", headers)
      assert extensions(response) == [@offer]
    end

    test "only with clients that renounce their context, where it is not wanted" do
      server = serve!([], compress: true, deflate_options: [client_context_takeover: false])
      assert {_socket, []} = negotiated(@offer, server)
      renouncing = "permessage-deflate; client_no_context_takeover"
      assert {_socket, [^renouncing]} = negotiated("#{@offer}, #{renouncing}", server)
    end

    test "with a window of our own choice, which is told only to those who asked" do
      server = serve!([], compress: true, deflate_options: [window_bits: 9])
      assert {socket, [@offer]} = negotiated(@offer, server)
      far = String.duplicate(text(3_000), 3)
      send_frame(socket, :text, far)
      assert {true, :text, payload} = recv(socket)
      assert inflate(payload, inflater(9)) == far

      assert {_socket, ["permessage-deflate; server_max_window_bits=9"]} =
               negotiated("permessage-deflate; server_max_window_bits=15", server)
    end
  end

  describe "messages" do
    # Below and above the threshold, and above what is compressed where the sender stands.
    @sizes [1, 199, 200, 201, 1_000, 16_384, 16_385, 100_000, 300_000]

    for {title, server_keeps, client_keeps} <- [
          {"with the client's context kept", false, true},
          {"without a context on either side", false, false},
          {"with both contexts kept", true, true},
          {"with the server's context kept", true, false}
        ] do
      test "are echoed #{title}" do
        server =
          serve!([],
            compress: true,
            deflate_options: [threshold: 200, server_context_takeover: unquote(server_keeps)]
          )

        {socket, [_answer]} =
          negotiated(
            if(unquote(client_keeps), do: @offer, else: @offer <> "; client_no_context_takeover"),
            server
          )

        deflater = deflater()
        inflater = inflater()

        for round <- 1..10, size <- @sizes do
          opcode = Enum.at([:text, :binary], rem(round, 2))
          message = text(size, round)
          send_compressed(socket, opcode, deflate(deflater, message))
          assert {compressed?, ^opcode, payload} = recv(socket)
          assert {size, compressed?} == {size, size >= 200}
          assert if(compressed?, do: inflate(payload, inflater), else: payload) == message
          unless unquote(server_keeps), do: :zlib.inflateReset(inflater)
          unless unquote(client_keeps), do: :zlib.deflateReset(deflater)
        end
      end
    end

    test "of the server refer to earlier ones only with server_context_takeover" do
      for {keeps, offer} <- [
            {true, @offer},
            {false, @offer},
            {false, @offer <> "; server_no_context_takeover"}
          ] do
        options = [server_context_takeover: keeps or offer != @offer]

        server = serve!([], compress: true, deflate_options: options)
        {socket, [^offer]} = negotiated(offer, server)

        [first, second] =
          for _ <- 1..2 do
            send_frame(socket, :text, text(2_000))
            assert {true, :text, payload} = recv(socket)
            payload
          end

        if keeps do
          inflater = inflater()
          assert inflate(first, inflater) == text(2_000)
          assert inflate(second, inflater) == text(2_000)
          assert byte_size(second) < byte_size(first)
          assert_raise ErlangError, fn -> inflate(second) end
        else
          assert first == second
          assert inflate(second) == text(2_000)
        end
      end
    end

    test "under the threshold go as they are" do
      for threshold <- [0, 100, 20_000] do
        options = [compress: true, deflate_options: [threshold: threshold]]
        {socket, [_answer]} = negotiated(@offer, serve!([], options))

        for size <- [50, threshold - 1, threshold, threshold + 1], size > 10 do
          message = String.duplicate("a", size)
          send_frame(socket, :text, message)
          assert {compressed?, :text, payload} = recv(socket)
          assert {size, compressed?} == {size, size >= threshold}
          assert if(compressed?, do: inflate(payload), else: payload) == message
        end
      end
    end

    test "that do not get smaller go as they are" do
      {socket, [_answer]} = negotiated(@offer)
      message = :rand.bytes(1_000)
      send_frame(socket, :binary, message)
      assert recv(socket) == {false, :binary, message}
    end

    test "that do not get smaller go as they must with a context, and may be large" do
      for keeps <- [true, false] do
        options = [server_context_takeover: keeps]
        server = serve!([], compress: true, deflate_options: options)
        {socket, [_answer]} = negotiated(@offer, server)
        inflater = inflater()

        for size <- [1_000, 200_000, 1_000] do
          message = :rand.bytes(size)
          send_frame(socket, :binary, message)
          assert {compressed?, :binary, payload} = recv(socket)
          assert if(compressed?, do: inflate(payload, inflater), else: payload) == message
          unless keeps, do: :zlib.inflateReset(inflater)
        end
      end
    end

    test "of no bytes are compressed messages too (RFC7692§7.2.3.6)" do
      options = [threshold: 0, server_context_takeover: true]

      {socket, [_answer]} =
        negotiated(@offer, serve!([], compress: true, deflate_options: options))

      inflater = inflater()

      for payload <- [<<0>>, <<0>>, "", <<2, 0>>] do
        send_compressed(socket, :text, payload)
        assert {true, :text, answer} = recv(socket)
        assert inflate(answer, inflater) == ""
      end

      {socket, [_answer]} = negotiated(@offer)
      send_compressed(socket, :binary, <<0>>)
      assert recv(socket) == {false, :binary, ""}
    end

    test "may end with a final block (RFC7692§7.2.3.4)" do
      {socket, [_answer]} = negotiated(@offer)

      for _ <- 1..3 do
        send_compressed(socket, :text, final_block("hello") <> <<0>>)
        assert recv(socket) == {false, :text, "hello"}
      end
    end

    test "may come in the RFC's own bytes (RFC7692§7.2.3)" do
      {socket, [_answer]} = negotiated(@offer)

      for payload <- [
            # One block, the same from the context, no compression, and two blocks.
            <<0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00>>,
            <<0xF2, 0x00, 0x11, 0x00, 0x00>>,
            <<0x00, 0x05, 0x00, 0xFA, 0xFF, "Hello", 0x00>>,
            <<0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00>>,
            <<0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00>>
          ] do
        send_compressed(socket, :text, payload)
        assert recv(socket) == {false, :text, "Hello"}
      end
    end

    test "may be uncompressed among compressed ones" do
      {socket, [_answer]} = negotiated(@offer)
      deflater = deflater()

      for i <- 1..20 do
        message = text(40, i)
        if rem(i, 3) == 0, do: send_frame(socket, :text, message)
        if rem(i, 3) != 0, do: send_compressed(socket, :text, deflate(deflater, message))
        assert recv(socket) == {false, :text, message}
      end
    end

    test "may come in fragments, with control frames in between" do
      {socket, [_answer]} = negotiated(@offer)
      deflater = deflater()
      ping = String.duplicate("p", 125)

      for cut <- [0, 1, 2], size <- [10, 1_000, 50_000] do
        message = text(size, cut)
        payload = deflate(deflater, message)
        <<first::binary-size(^cut), second::binary-size(1), third::binary>> = payload
        write(socket, frame(:text, first, [fin: false] ++ @compressed))
        send_frame(socket, :ping, ping)
        assert recv(socket) == {false, :pong, ping}
        write(socket, frame(:continuation, second, fin: false))
        send_frame(socket, :ping, "2")
        assert recv(socket) == {false, :pong, "2"}
        send_frame(socket, :continuation, third)
        assert {compressed?, :text, payload} = recv(socket)
        assert if(compressed?, do: inflate(payload), else: payload) == message
      end
    end

    test "may come byte by byte" do
      {socket, [_answer]} = negotiated(@offer)
      bytes = frame(:text, deflate(deflater(), text(60)), @compressed)
      for <<byte <- bytes>>, do: write(socket, <<byte>>)
      assert recv(socket) == {false, :text, text(60)}
    end

    test "may come many in one segment" do
      {socket, [_answer]} = negotiated(@offer)
      deflater = deflater()
      messages = for i <- 1..500, do: text(60, i)
      write(socket, for(message <- messages, do: compressed(:text, deflate(deflater, message))))
      for message <- messages, do: assert(recv(socket) == {false, :text, message})
    end

    test "that are joined may split a code point between fragments" do
      {socket, [_answer]} = negotiated(@offer)
      deflater = deflater()
      # Flushed inside of the code point, so that a fragment really ends there.
      <<first::binary-size(2), second::binary>> = "🦀"
      first = :zlib.deflate(deflater, "a" <> first, :sync) |> IO.iodata_to_binary()
      write(socket, frame(:text, first, [fin: false] ++ @compressed))
      sent = deflate(deflater, second <> "b")
      send_frame(socket, :continuation, sent)
      assert recv(socket) == {false, :text, "a🦀b"}
    end
  end

  describe "control frames" do
    test "of the server are never compressed" do
      payload = String.duplicate("c", 125)

      server =
        serve!(
          [
            handle_in: fn _, state ->
              {:push, [ping: payload, pong: payload, text: text(1_000)], state}
            end,
            handle_info: fn :stop, state ->
              {:stop, :normal, {1000, binary_part(payload, 0, 123)}, state}
            end
          ],
          compress: true,
          deflate_options: [threshold: 0]
        )

      {socket, [_answer]} = negotiated(@offer, server)
      assert_receive {:opened, pid}
      send_frame(socket, :text, "go")
      assert recv(socket) == {false, :ping, payload}
      assert recv(socket) == {false, :pong, payload}
      assert {true, :text, _payload} = recv(socket)
      send(pid, :stop)
      assert recv(socket) == {false, :close, <<1000::16, binary_part(payload, 0, 123)::binary>>}
    end

    for opcode <- [:ping, :pong, :close] do
      test "of the client may not be: #{opcode} (RFC7692§6.1)" do
        payload = if unquote(opcode) == :close, do: <<1000::16>>, else: ""
        assert_refused(frame(unquote(opcode), payload, @compressed), 1002, :reserved_bits)
      end
    end
  end

  describe "protocol error:" do
    test "RSV1 where nothing was agreed on closes with 1002 (RFC6455§5.2)" do
      for {offer, options} <- [{"permessage-bzip2", [compress: true]}, {@offer, []}] do
        server = serve!([], options)
        assert_refused(compressed(:text, <<0>>), 1002, :reserved_bits, {offer, server})
      end
    end

    test "RSV1 on a continuation closes with 1002 (RFC7692§6.1)" do
      rest = frame(:continuation, <<0>>, @compressed)
      first = frame(:text, "", [fin: false] ++ @compressed)
      assert_refused([first, rest], 1002, :reserved_bits)
      assert_refused([frame(:text, "", fin: false), rest], 1002, :reserved_bits)
    end

    for rsv <- [1, 2, 3, 5, 6, 7] do
      test "reserved bits #{rsv} close with 1002 all the same" do
        assert_refused(frame(:text, "", rsv: unquote(rsv)), 1002, :reserved_bits)
      end
    end

    for {title, payload} <- [
          {"a reserved block type", <<0x06>>},
          {"nothing but ones", <<255, 255, 255, 255>>},
          {"a stored block of wrong length", <<0x00, 0x05, 0x00, 0x00, 0x00, "Hello", 0x00>>},
          {"a reference before the first byte", <<0xF2, 0x00, 0x11, 0x00, 0x00>>},
          {"an end inside of a block", <<0xF2, 0x48, 0xCD>>}
        ] do
      test "data with #{title} closes with 1007, and one line is logged" do
        assert_refused(compressed(:text, unquote(payload)), 1007, :invalid_deflate)
      end

      test "fragments with #{title} close with 1007" do
        <<first::binary-size(1), rest::binary>> = unquote(payload)
        first = frame(:binary, first, [fin: false] ++ @compressed)
        assert_refused([first, frame(:continuation, rest)], 1007, :invalid_deflate)
      end
    end

    test "a reference to a context that was renounced closes with 1007" do
      deflater = deflater()
      [first, second] = for _ <- 1..2, do: compressed(:text, deflate(deflater, text(60)))
      server = serve!([handle_in: fn _, state -> {:ok, state} end], compress: true)
      opened = {@offer <> "; client_no_context_takeover", server}
      assert_refused([first, second], 1007, :invalid_deflate, opened)
    end

    test "text that is not UTF-8 once inflated closes with 1007" do
      for bad <- [<<255>>, <<0xF0, 0x9F, 0xA6>>, <<0xED, 0xA0, 0x80>>] do
        payload = deflate(deflater(), "ab" <> bad)
        assert_refused(compressed(:text, payload), 1007, :invalid_utf8)
      end
    end

    test "text closes with 1007 at its first bad byte, before its message has ended" do
      payload = deflate(deflater(), "ab" <> <<255>>) <> @tail
      bytes = frame(:text, payload, [fin: false] ++ @compressed)
      assert_refused(bytes, 1007, :invalid_utf8)
    end

    test "text is not checked with validate_utf8: false" do
      server = serve!([], compress: true, validate_utf8: false)
      {socket, [_answer]} = negotiated(@offer, server)
      send_compressed(socket, :text, deflate(deflater(), <<255>>))
      assert recv(socket) == {false, :text, <<255>>}
    end
  end

  describe "max_frame_size" do
    test "is that of the inflated message" do
      server = serve!([], compress: true, max_frame_size: 1_000)
      {socket, [_answer]} = negotiated(@offer, server)
      assert_receive {:opened, _pid}
      deflater = deflater()
      zeros = :binary.copy(<<0>>, 1_000)
      send_compressed(socket, :binary, deflate(deflater, zeros))
      assert {true, :binary, payload} = recv(socket)
      assert inflate(payload) == zeros

      payload = deflate(deflater(), zeros <> "x")
      assert byte_size(payload) < 100
      assert_refused(compressed(:binary, payload), 1009, :too_big, {@offer, server})

      <<first::binary-size(5), rest::binary>> = payload
      first = frame(:binary, first, [fin: false] ++ @compressed)
      bytes = [first, frame(:continuation, rest)]
      assert_refused(bytes, 1009, :too_big, {@offer, server})
    end

    test "is also that of a compressed frame, which is refused on its header" do
      server = serve!([], compress: true, max_frame_size: 1_000)
      header = <<0xC2, 0xFE, 1_001::16, 0::32>>
      assert_refused(header, 1009, :too_big, {@offer, server})
    end

    test "ends a bomb at once, in one frame or in many, and spares the memory" do
      server = serve!([], compress: true)
      {start, zeros} = bomb()
      bomb = [start | List.duplicate(zeros, 1_000)]
      length = IO.iodata_length(bomb)
      assert length < 2_000_000

      # Masked with zeros, which spares the test the work.
      one_frame = [<<0xC2, 0xFF, length::64, 0::32>> | bomb]

      [first | rest] =
        for part <- bomb, do: [<<0xFF, byte_size(part)::64, 0::32>>, part]

      many_frames = [<<0x42>>, first | for(part <- rest, do: [<<0x00>>, part])]
      before = peak_memory()

      for bytes <- [one_frame, many_frames] do
        {socket, [_answer]} = negotiated(@offer, server)
        assert_receive {:opened, pid}
        Process.monitor(pid)

        {time, :ok} =
          :timer.tc(fn ->
            write(socket, bytes)
            assert {:close, 1009, "too big"} = recv_frame(socket, 30_000)
            assert down(pid) == {:shutdown, :too_big}
            :ok
          end)

        assert time < 10_000_000
      end

      # A gigabyte, were it all inflated.
      assert peak_memory() - before < 400_000_000
    end
  end

  describe "a large message" do
    for keeps <- [false, true] do
      test "and small ones before and after it come in order#{if keeps, do: ", from one context"}" do
        large = json(5_000_000)

        server =
          serve!(
            [
              handle_in: fn {"go", _}, state ->
                send(self(), :more)

                {:push, [text: text(200, 1), text: large, text: "short", text: text(200, 2)],
                 state}
              end,
              handle_info: fn :more, state ->
                {:stop, :normal, 4000,
                 [ping: "ping", text: text(200, 3), binary: large, text: text(200, 4)], state}
              end
            ],
            compress: true,
            deflate_options: [server_context_takeover: unquote(keeps)]
          )

        {socket, [_answer]} = negotiated(@offer, server)
        send_frame(socket, :text, "go")
        inflater = inflater()

        frames =
          for _ <- 1..8 do
            {compressed?, opcode, payload} = recv(socket, 30_000)
            data = if compressed?, do: inflate(payload, inflater), else: payload
            unless unquote(keeps), do: :zlib.inflateReset(inflater)
            {compressed?, opcode, data}
          end

        assert frames == [
                 {true, :text, text(200, 1)},
                 {true, :text, large},
                 {false, :text, "short"},
                 {true, :text, text(200, 2)},
                 {false, :ping, "ping"},
                 {true, :text, text(200, 3)},
                 {true, :binary, large},
                 {true, :text, text(200, 4)}
               ]

        assert recv(socket) == {false, :close, <<4000::16>>}
      end
    end

    test "is followed by many: their process waits while they are compressed" do
      pushes = 10
      large = json(3_000_000)
      test = self()

      server =
        serve!(
          [
            handle_in: fn {"go", _}, state -> {:ok, send_next(state, 1)} end,
            handle_info: fn {:push, i}, state ->
              send(test, {:pushed, i})
              state = if i < pushes, do: send_next(state, i + 1), else: state
              {:push, [text: large, text: "#{i}"], state}
            end
          ],
          [compress: true, deflate_options: [level: 9]],
          websocket_options: [high_water_mark: 100_000]
        )

      {socket, [_answer]} = negotiated(@offer, server)
      assert_receive {:opened, pid}
      send_frame(socket, :text, "go")
      # Each takes some tens of milliseconds, in which nothing else is taken.
      eventually(fn -> waits_for_client?(pid) end)
      refute_received {:pushed, ^pushes}

      for i <- 1..pushes do
        assert {true, :text, payload} = recv(socket, 30_000)
        assert inflate(payload) == large
        assert recv(socket) == {false, :text, "#{i}"}
      end

      sync(socket)
    end

    test "does not keep other clients waiting while it is compressed" do
      large = json(5_000_000)
      push = fn _, state -> {:push, List.duplicate({:text, large}, 3), state} end
      options = [compress: true, deflate_options: [level: 9]]
      {socket, [_answer]} = negotiated(@offer, serve!([handle_in: push], options))
      {other, _pid} = Socket.open(serve!([], []))
      task = Task.async(fn -> receive do: (:go -> for(_ <- 1..3, do: recv(socket, 60_000))) end)
      :ok = :gen_tcp.controlling_process(socket, task.pid)
      send_frame(socket, :text, "go")
      send(task.pid, :go)

      # The engine answers pings by itself. It compresses some two hundred pieces, and looks at its
      # sockets between them.
      assert pongs_until_done(other, task, 0) > 20
    end

    test "leaves nothing behind when its client leaves while it is compressed" do
      large = json(8_000_000)
      test = self()

      push = fn _, state ->
        send(test, :pushing)
        {:push, {:text, large <> <<"\n">>}, state}
      end

      server = serve!([handle_in: push], compress: true, deflate_options: [level: 9])
      before = peak_memory()

      for i <- 1..100 do
        {socket, [_answer]} = negotiated(@offer, server)
        assert_receive {:opened, pid}
        Process.monitor(pid)
        send_frame(socket, :text, "go")
        if rem(i, 2) == 0, do: assert_receive(:pushing)
        if rem(i, 3) == 0, do: :gen_tcp.close(socket), else: reset(socket)
        assert down(pid) == {:shutdown, :closed}
      end

      eventually(fn -> Ferrosock.info(server).connections == 0 end)
      # A hundred times eight megabytes, were they kept.
      assert peak_memory() - before < 400_000_000
    end
  end

  describe "a message that goes to many" do
    # What a socket is pushed is pushed to others before and after, so that what is compressed for one may be
    # taken for another: its client must be able to read it all the same.
    test "is what each of their clients reads, whatever was agreed on" do
      push = fn {:push, messages}, state -> {:push, messages, state} end

      clients =
        for deflate <- [
              [],
              [],
              [level: 9],
              [mem_level: 1],
              [window_bits: 9],
              [server_context_takeover: true],
              [server_context_takeover: true, window_bits: 9],
              [threshold: 2_000],
              [cache: false]
            ],
            offer <- [@offer, @offer <> "; server_max_window_bits=10"] do
          upgrade = [compress: true, deflate_options: [threshold: 0] ++ deflate]
          {socket, [answer]} = negotiated(offer, serve!([handle_info: push], upgrade))
          assert_receive {:opened, pid}

          {pid, socket, deflate,
           inflater(min(deflate[:window_bits] || 15, bits(answer, "server")))}
        end

      :rand.seed(:exsss, {1, 2, 3})
      # More of them than are kept, and some that never are.
      messages = [
        text(0),
        text(5),
        text(16_384),
        text(16_385),
        text(60_000) | for(i <- 1..24, do: text(50 * i, i))
      ]

      for _ <- 1..40 do
        pushes =
          for _ <- 1..5, do: {Enum.random([:text, :binary]), Enum.random(messages)}

        for {pid, _socket, _deflate, _inflater} <- clients, do: send(pid, {:push, pushes})

        for {_pid, socket, deflate, inflater} <- clients, {opcode, message} <- pushes do
          assert {compressed?, ^opcode, payload} = recv(socket)
          unless deflate[:server_context_takeover], do: :zlib.inflateReset(inflater)
          if deflate[:threshold], do: assert(compressed? == byte_size(message) >= 2_000)
          assert if(compressed?, do: inflate(payload, inflater), else: payload) == message
        end
      end
    end

    test "is compressed once, unless `cache` is off" do
      message = json(16_000)
      push = fn _, state -> {:push, List.duplicate({:text, message}, 100), state} end

      [cached, anew] =
        for cache <- [true, false] do
          options = [compress: true, deflate_options: [level: 9, cache: cache]]
          {socket, [_answer]} = negotiated(@offer, serve!([handle_in: push], options))

          times =
            for _ <- 1..5 do
              {time, frames} =
                :timer.tc(fn ->
                  send_frame(socket, :text, "go")
                  for _ <- 1..100, do: recv(socket)
                end)

              assert [{true, :text, payload}] = Enum.uniq(frames)
              assert inflate(payload) == message
              time
            end

          # The one that was least disturbed.
          Enum.min(times)
        end

      assert cached < anew / 3
    end
  end

  describe "deflate_options" do
    for {name, value} <- [
          level: 0,
          level: 10,
          level: :fast,
          mem_level: 0,
          mem_level: 10,
          window_bits: 8,
          window_bits: 16,
          client_window_bits: 8,
          client_window_bits: 16,
          server_context_takeover: nil,
          client_context_takeover: 1,
          threshold: -1,
          cache: nil
        ] do
      test "raise on #{inspect(value)} for #{inspect(name)}, at the start and in an upgrade" do
        options = [deflate_options: [{unquote(name), unquote(value)}]]
        message = ~r/invalid value for option :#{unquote(name)} in :deflate_options/

        assert_raise ArgumentError, message, fn ->
          Ferrosock.start_link(plug: __MODULE__, port: 0, websocket_options: options)
        end

        conn = Plug.Test.conn(:get, "/")

        assert_raise ArgumentError, message, fn ->
          Ferrosock.upgrade(conn, Socket, nil, options)
        end
      end
    end

    test "raise on an unknown name and on what is no list" do
      for {options, message} <- [
            {[ratio: 1], ~r/unknown option :ratio in :deflate_options; known are :level/},
            {%{level: 1}, ~r/options in :deflate_options must be a keyword list/}
          ] do
        assert_raise ArgumentError, message, fn ->
          Ferrosock.start_link(plug: __MODULE__, websocket_options: [deflate_options: options])
        end

        assert_raise ArgumentError, message, fn ->
          conn = Plug.Test.conn(:get, "/")
          Ferrosock.upgrade(conn, Socket, nil, deflate_options: options)
        end
      end
    end

    test "of an upgrade replace the server's one by one, and every level works" do
      for level <- 1..9, mem_level <- [1, 9] do
        server =
          serve!([], [compress: true, deflate_options: [level: level, mem_level: mem_level]],
            websocket_options: [deflate_options: [threshold: 300, level: 1]]
          )

        {socket, [_answer]} = negotiated(@offer, server)

        for size <- [299, 300, 50_000] do
          send_frame(socket, :text, text(size))
          assert {compressed?, :text, payload} = recv(socket)
          assert compressed? == size >= 300
          assert if(compressed?, do: inflate(payload), else: payload) == text(size)
        end
      end
    end
  end

  defp assert_refused(bytes, code, reason, opened \\ nil) do
    {offer, server} = opened || {@offer, serve!([], [compress: true], id: make_ref())}
    {socket, _answer} = negotiated(offer, server)
    assert_receive {:opened, pid}
    Process.monitor(pid)
    Probe.assert_refused(socket, pid, bytes, code, reason)
  end

  defp serve!(callbacks, upgrade_options, server_options \\ []),
    do: Socket.serve!(callbacks, upgrade_options, [id: make_ref()] ++ server_options)

  # A WebSocket, and what the handshake's answer says of extensions.
  defp negotiated(offer, server \\ nil) do
    socket = connect(server || serve!([], compress: true))
    response = %{status: 101} = handshake(socket, "/", offer(offer))
    {socket, extensions(response)}
  end

  defp offer(offer), do: [{"sec-websocket-extensions", offer}]
  defp extensions(response), do: header(response, "sec-websocket-extensions")

  defp bits(answer, side) do
    case Regex.run(~r/#{side}_max_window_bits=(\d+)/, answer) do
      [_, bits] -> String.to_integer(bits)
      nil -> 15
    end
  end

  defp deflater(bits \\ 15) do
    zlib = :zlib.open()
    :ok = :zlib.deflateInit(zlib, :default, :deflated, -bits, 8, :default)
    zlib
  end

  defp deflate(deflater, message) do
    flushed = deflater |> :zlib.deflate(message, :sync) |> IO.iodata_to_binary()
    size = byte_size(flushed) - 4
    <<payload::binary-size(^size), @tail>> = flushed
    payload
  end

  defp final_block(message) do
    deflater = deflater()
    deflater |> :zlib.deflate(message, :finish) |> IO.iodata_to_binary()
  end

  defp inflater(bits \\ 15) do
    zlib = :zlib.open()
    :ok = :zlib.inflateInit(zlib, -bits)
    zlib
  end

  defp inflate(payload, inflater \\ inflater()),
    do: inflater |> :zlib.inflate([payload, @tail]) |> IO.iodata_to_binary()

  # A start, and what may follow it any number of times: a megabyte of zeros each.
  defp bomb do
    deflater = deflater()
    zeros = :binary.copy(<<0>>, 1_000_000)
    [start, next, next] = for _ <- 1..3, do: :zlib.deflate(deflater, zeros, :sync)
    {IO.iodata_to_binary(start), IO.iodata_to_binary(next)}
  end

  defp compressed(opcode, payload), do: frame(opcode, payload, @compressed)
  defp send_compressed(socket, opcode, payload), do: write(socket, compressed(opcode, payload))

  # A frame of the server: whether RSV1 is set, its opcode and its payload.
  defp recv(socket, timeout \\ 10_000) do
    {:ok, <<1::1, rsv1::1, 0::2, opcode::4, 0::1, length::7>>} =
      :gen_tcp.recv(socket, 2, timeout)

    length =
      case length do
        126 -> socket |> read(2) |> :binary.decode_unsigned()
        127 -> socket |> read(8) |> :binary.decode_unsigned()
        length -> length
      end

    opcode = Map.fetch!(%{1 => :text, 2 => :binary, 8 => :close, 9 => :ping, 10 => :pong}, opcode)
    {rsv1 == 1, opcode, read(socket, length)}
  end

  # Words in no order, the same for the same seed.
  defp text(size, seed \\ 0) do
    words = ~w(alpha beta gamma delta epsilon zeta eta theta iota kappa)
    state = :rand.seed_s(:exsss, seed)

    {words, _state} =
      Enum.map_reduce(1..(div(size, 4) + 1), state, fn _, state ->
        {i, state} = :rand.uniform_s(10, state)
        {[Enum.at(words, i - 1), " "], state}
      end)

    words |> IO.iodata_to_binary() |> binary_part(0, size)
  end

  defp json(size) do
    line = for i <- 1..2_000, do: ~s({"id":#{i},"name":"#{text(10, i)}","value":#{i * 7919}},)
    line = IO.iodata_to_binary(line)
    line |> :binary.copy(div(size, byte_size(line)) + 1) |> binary_part(0, size)
  end

  defp pongs_until_done(socket, task, count) do
    send_frame(socket, :ping, "#{count}")
    assert recv_frame(socket) == {:pong, "#{count}"}
    if Task.yield(task, 0), do: count, else: pongs_until_done(socket, task, count + 1)
  end

  defp send_next(state, i) do
    send(self(), {:push, i})
    state
  end

  # Of the whole VM, in bytes: what the engine allocates is none of Erlang's.
  defp peak_memory do
    [_, kilobytes] = Regex.run(~r/VmHWM:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1_024
  end
end
