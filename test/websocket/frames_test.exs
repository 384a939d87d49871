defmodule Ferrosock.WebSocket.FramesTest do
  # The protocol as bytes: what a client may send, and how it is told that it may not.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Ferrosock.Test.Probe, only: [assert_refused: 5, down: 1]
  import Ferrosock.Test.Raw

  alias Ferrosock.Test.Logs

  defmodule Socket do
    use Ferrosock.Test.Probe
  end

  describe "a message of" do
    for size <- [0, 1, 125, 126, 127, 65_535, 65_536, 1_048_576] do
      test "#{size} bytes comes and goes whole" do
        {socket, _pid} = Socket.open(Socket.serve!())
        text = String.duplicate("t", unquote(size))
        binary = :rand.bytes(unquote(size))

        send_frame(socket, :text, text)
        assert recv_frame(socket) == {:text, text}
        send_frame(socket, :binary, binary)
        assert recv_frame(socket) == {:binary, binary}
      end
    end

    test "any mask is unmasked (RFC6455§5.3)" do
      {socket, _pid} = Socket.open(Socket.serve!())

      for mask <- [<<0, 0, 0, 0>>, <<255, 255, 255, 255>>, <<1, 2, 3, 4>>] do
        send_frame(socket, :text, "unmask me", mask: mask)
        assert recv_frame(socket) == {:text, "unmask me"}
      end
    end

    test "a length in a longer form than it needs is accepted" do
      {socket, _pid} = Socket.open(Socket.serve!())
      write(socket, <<0x81, 0xFE, 5::16, 0::32, "hello">>)
      assert recv_frame(socket) == {:text, "hello"}
      write(socket, <<0x81, 0xFF, 5::64, 0::32, "hello">>)
      assert recv_frame(socket) == {:text, "hello"}
    end
  end

  describe "frames" do
    test "may come byte by byte" do
      {socket, _pid} = Socket.open(Socket.serve!())

      bytes =
        frame(:text, "hel", fin: false) <>
          frame(:ping, "ping") <> frame(:continuation, "lo") <> frame(:binary, "")

      for <<byte <- bytes>>, do: write(socket, <<byte>>)
      assert recv_frame(socket) == {:pong, "ping"}
      assert recv_frame(socket) == {:text, "hello"}
      assert recv_frame(socket) == {:binary, ""}
    end

    test "may come many in one segment" do
      {socket, _pid} = Socket.open(Socket.serve!())
      messages = for i <- 1..2_000, do: {Enum.at([:text, :binary], rem(i, 2)), "#{i}"}
      write(socket, for({opcode, data} <- messages, do: frame(opcode, data)))
      for message <- messages, do: assert(recv_frame(socket) == message)
    end

    test "may be cut anywhere" do
      server = Socket.serve!()
      {socket, _pid} = Socket.open(server)
      long = String.duplicate("é", 3_000)
      bytes = frame(:text, long) <> frame(:ping, "p") <> frame(:text, "short")

      for cut <- [1, 2, 3, 7, 8, 9, 4_000, 6_007, 6_008, 6_009, 6_010, 6_012, 6_016] do
        <<first::binary-size(^cut), rest::binary>> = bytes
        write_alone(server, socket, first)
        write(socket, rest)

        frames = for _ <- 1..3, do: recv_frame(socket)
        assert {:pong, "p"} in frames
        assert List.delete(frames, {:pong, "p"}) == [text: long, text: "short"]
      end
    end
  end

  describe "a fragmented message" do
    test "is joined, with control frames in between (RFC6455§5.4)" do
      {socket, _pid} = Socket.open(Socket.serve!())
      send_frame(socket, :text, "one ", fin: false)
      send_frame(socket, :ping, "1")
      assert recv_frame(socket) == {:pong, "1"}
      send_frame(socket, :continuation, "two ", fin: false)
      send_frame(socket, :pong, "unasked")
      send_frame(socket, :ping, "2")
      assert recv_frame(socket) == {:pong, "2"}
      send_frame(socket, :continuation, "three")
      assert recv_frame(socket) == {:text, "one two three"}
    end

    test "may have empty fragments, all of them too" do
      {socket, _pid} = Socket.open(Socket.serve!())
      write(socket, [frame(:text, "", fin: false), frame(:continuation, "", fin: false)])
      send_frame(socket, :continuation, "")
      assert recv_frame(socket) == {:text, ""}

      write(socket, [frame(:text, "", fin: false), frame(:continuation, "x", fin: false)])
      send_frame(socket, :continuation, "")
      assert recv_frame(socket) == {:text, "x"}
    end

    test "may cut a code point at each of its bytes" do
      {socket, _pid} = Socket.open(Socket.serve!())

      for cuts <- [[1, 3], [2, 2], [3, 1], [1, 1, 2], [1, 2, 1], [2, 1, 1], [1, 1, 1, 1]] do
        [first | rest] = cut("🦀", cuts)
        {middle, [last]} = Enum.split(rest, -1)

        write(socket, [
          frame(:text, "a" <> first, fin: false),
          for(part <- middle, do: frame(:continuation, part, fin: false)),
          frame(:continuation, last <> "b")
        ])

        assert recv_frame(socket) == {:text, "a🦀b"}
      end
    end

    test "of many one-byte fragments takes time in proportion to their number" do
      server =
        Socket.serve!([], [max_frame_size: 1_000_000],
          websocket_options: [max_fragments: 1_000_000]
        )

      {socket, _pid} = Socket.open(server)
      few = time_of_fragments(socket, 50_000)
      many = time_of_fragments(socket, 1_000_000)
      # Twenty times as many: quadratic work would take four hundred times as long.
      assert many < 100 * max(few, 5_000)
    end

    test "of as many fragments as allowed passes, of one more closes with 1009" do
      server = Socket.serve!([], [], websocket_options: [max_fragments: 100])
      {socket, pid} = Socket.open(server)
      write(socket, fragments(100))
      assert recv_frame(socket) == {:text, String.duplicate("x", 100)}

      assert_refused(socket, pid, fragments(101), 1009, :too_many_fragments)
    end

    test "of empty fragments counts them too" do
      server = Socket.serve!([], [], websocket_options: [max_fragments: 100])
      {socket, pid} = Socket.open(server)
      empty = :binary.copy(frame(:continuation, "", fin: false), 100)
      bytes = [frame(:text, "", fin: false), empty]
      assert_refused(socket, pid, bytes, 1009, :too_many_fragments)
    end
  end

  describe "a ping" do
    test "is answered with its payload (RFC6455§5.5.3)" do
      {socket, _pid} = Socket.open(Socket.serve!())

      for payload <- ["", "x", <<0, 255, 128>>, String.duplicate("p", 125)] do
        send_frame(socket, :ping, payload)
        assert recv_frame(socket) == {:pong, payload}
      end
    end

    test "is one of many, and all are answered in order" do
      {socket, _pid} = Socket.open(Socket.serve!())
      write(socket, for(i <- 1..100, do: frame(:ping, "#{i}")))
      for i <- 1..100, do: assert(recv_frame(socket) == {:pong, "#{i}"})
    end
  end

  describe "protocol error:" do
    for {title, bytes, reason} <- [
          {"RSV1 without an extension (RFC6455§5.2)", <<0xC1, 0x80, 0::32>>, :reserved_bits},
          {"RSV2", <<0xA1, 0x80, 0::32>>, :reserved_bits},
          {"RSV3", <<0x91, 0x80, 0::32>>, :reserved_bits},
          {"RSV1 on a control frame", <<0xC9, 0x80, 0::32>>, :reserved_bits},
          {"RSV1 on a continuation", <<0x01, 0x80, 0::32, 0xC0, 0x80, 0::32>>, :reserved_bits},
          {"reserved data opcode 3 (RFC6455§5.2)", <<0x83, 0x80, 0::32>>, :reserved_opcode},
          {"reserved data opcode 7", <<0x87, 0x80, 0::32>>, :reserved_opcode},
          {"reserved control opcode 11", <<0x8B, 0x80, 0::32>>, :reserved_opcode},
          {"reserved control opcode 15", <<0x8F, 0x80, 0::32>>, :reserved_opcode},
          {"unmasked frame, before its payload (RFC6455§5.1)", <<0x81, 0x05>>, :unmasked_frame},
          {"unmasked close frame", <<0x88, 0x00>>, :unmasked_frame},
          {"length with its top bit set (RFC6455§5.2)", <<0x82, 0xFF, 0x80>>, :invalid_length},
          {"ping over 125 bytes, before its payload (RFC6455§5.5)", <<0x89, 0xFE, 126::16>>,
           :control_frame_too_big},
          {"pong over 125 bytes", <<0x8A, 0xFE, 126::16>>, :control_frame_too_big},
          {"close frame over 125 bytes", <<0x88, 0xFE, 126::16>>, :control_frame_too_big},
          {"fragmented ping (RFC6455§5.5)", <<0x09, 0x80, 0::32>>, :fragmented_control_frame},
          {"fragmented close frame", <<0x08, 0x80, 0::32>>, :fragmented_control_frame},
          {"continuation of nothing (RFC6455§5.4)", <<0x80, 0x80, 0::32>>,
           :unexpected_continuation},
          {"continuation after the last fragment",
           <<0x01, 0x80, 0::32, 0x80, 0x80, 0::32, 0x80, 0x80, 0::32>>, :unexpected_continuation},
          {"new message inside a fragmented one (RFC6455§5.4)",
           <<0x01, 0x80, 0::32, 0x82, 0x80, 0::32>>, :expected_continuation},
          {"close frame with half a code (RFC6455§5.5.1)", <<0x88, 0x81, 0::32, 3>>,
           :invalid_close_frame}
        ] do
      test "#{title} closes with 1002" do
        {socket, pid} = Socket.open(Socket.serve!(handle_in: &drop/2))
        assert_refused(socket, pid, unquote(bytes), 1002, unquote(reason))
      end
    end

    test "what came before it in the same segment is handled, what comes after is not" do
      test = self()

      server =
        Socket.serve!(
          handle_in: fn {data, _}, state ->
            send(test, {:called, data})
            {:push, {:text, data}, state}
          end
        )

      {socket, pid} = Socket.open(server)
      bytes = [frame(:text, "before"), frame(3, ""), frame(:text, "after")]

      log =
        capture_log(fn ->
          write(socket, bytes)
          assert recv_frame(socket) == {:text, "before"}
          assert {:close, 1002, _reason} = recv_frame(socket)
          assert down(pid) == {:shutdown, :reserved_opcode}
        end)

      assert lines(log) == 1
      assert_received {:called, "before"}
      refute_received {:called, _}
    end

    test "a flood of them logs at most ten lines a second" do
      Logs.attach()
      server = Socket.serve!()
      since = System.monotonic_time(:second)

      for _ <- 1..50 do
        {socket, pid} = Socket.open(server)
        write(socket, frame(3, ""))
        assert {:close, 1002, _reason} = recv_frame(socket)
        down(pid)
      end

      seconds = System.monotonic_time(:second) - since + 1
      # Ten for each second in which they came.
      assert length(Logs.taken(server)) in 10..min(10 * seconds, 50)
    end
  end

  describe "text" do
    for {title, bytes} <- [
          {"a lone continuation byte", <<0x80>>},
          {"an overlong form", <<0xC0, 0xAF>>},
          {"a surrogate", <<0xED, 0xA0, 0x80>>},
          {"a code point over U+10FFFF", <<0xF4, 0x90, 0x80, 0x80>>},
          {"a code point cut off by the end", <<0xF0, 0x9F, 0xA6>>}
        ] do
      test "with #{title} closes with 1007 (RFC6455§8.1)" do
        {socket, pid} = Socket.open(Socket.serve!(handle_in: &drop/2))
        assert_refused(socket, pid, frame(:text, "ab" <> unquote(bytes)), 1007, :invalid_utf8)
      end

      test "with #{title} in its last fragment closes with 1007" do
        {socket, pid} = Socket.open(Socket.serve!(handle_in: &drop/2))
        bytes = [frame(:text, "ab", fin: false), frame(:continuation, unquote(bytes))]
        assert_refused(socket, pid, bytes, 1007, :invalid_utf8)
      end
    end

    test "closes with 1007 at the first bad byte, before its frame has ended" do
      {socket, pid} = Socket.open(Socket.serve!())

      <<unfinished::binary-size(20), _rest::binary>> =
        frame(:text, "abc" <> <<255>> <> zeros(100))

      assert_refused(socket, pid, unfinished, 1007, :invalid_utf8)
    end

    test "closes with 1007 at the first bad byte, before its message has ended" do
      {socket, pid} = Socket.open(Socket.serve!())
      bytes = [frame(:text, "abc", fin: false), frame(:continuation, <<255>>, fin: false)]
      assert_refused(socket, pid, bytes, 1007, :invalid_utf8)
    end

    test "of a message in which a code point goes wrong across fragments closes with 1007" do
      {socket, pid} = Socket.open(Socket.serve!())
      bytes = [frame(:text, <<0xF0, 0x9F>>, fin: false), frame(:continuation, "a", fin: false)]
      assert_refused(socket, pid, bytes, 1007, :invalid_utf8)
    end

    test "is not checked with validate_utf8: false" do
      {socket, pid} = Socket.open(Socket.serve!([], validate_utf8: false))
      send_frame(socket, :text, <<255>>)
      assert recv_frame(socket) == {:text, <<255>>}
      write(socket, [frame(:text, <<0xF0>>, fin: false), frame(:continuation, "")])
      assert recv_frame(socket) == {:text, <<0xF0>>}
      send_frame(socket, :close, <<1000::16, 255>>)
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :closed}
    end
  end

  describe "max_frame_size" do
    test "lets a frame of just that size pass" do
      {socket, _pid} = Socket.open(Socket.serve!([], max_frame_size: 1_000))
      send_frame(socket, :binary, zeros(1_000))
      assert recv_frame(socket) == {:binary, zeros(1_000)}
      write(socket, [frame(:binary, zeros(999), fin: false), frame(:continuation, "x")])
      assert recv_frame(socket) == {:binary, zeros(999) <> "x"}
    end

    test "refuses a larger frame on its header, with 1009" do
      {socket, pid} = Socket.open(Socket.serve!([], max_frame_size: 1_000))
      assert_refused(socket, pid, <<0x82, 0xFE, 1_001::16, 0::32>>, 1009, :too_big)
    end

    test "refuses the largest length that a header can claim, with 1009" do
      {socket, pid} = Socket.open(Socket.serve!())
      assert_refused(socket, pid, <<0x82, 0xFF, 0x7FFFFFFFFFFFFFFF::64, 0::32>>, 1009, :too_big)
    end

    test "refuses a larger joined message on the header that makes it so, with 1009" do
      {socket, pid} = Socket.open(Socket.serve!([], max_frame_size: 1_000))

      bytes = [
        frame(:text, String.duplicate("a", 600), fin: false),
        <<0x00, 0xFE, 401::16, 0::32>>
      ]

      assert_refused(socket, pid, bytes, 1009, :too_big)
    end

    test "has the server's as its ceiling: an upgrade narrows it and does not widen it" do
      limits = [websocket_options: [max_frame_size: 1_000]]

      {socket, pid} = Socket.open(Socket.serve!([], [max_frame_size: 2_000], [id: 1] ++ limits))
      assert_refused(socket, pid, <<0x82, 0xFE, 1_001::16, 0::32>>, 1009, :too_big)

      {socket, pid} =
        Socket.open(Socket.serve!([], [max_frame_size: :infinity], [id: 2] ++ limits))

      assert_refused(socket, pid, <<0x82, 0xFE, 1_001::16, 0::32>>, 1009, :too_big)

      {socket, pid} = Socket.open(Socket.serve!([], [max_frame_size: 500], [id: 3] ++ limits))
      assert_refused(socket, pid, <<0x82, 0xFE, 501::16, 0::32>>, 1009, :too_big)
    end

    test "is 8,000,000 bytes where nobody says otherwise" do
      {socket, pid} = Socket.open(Socket.serve!())
      message = zeros(8_000_000)
      # Masked with zeros, which spares the test the work.
      write(socket, [<<0x82, 0xFF, 8_000_000::64, 0::32>>, message])
      assert recv_frame(socket) == {:binary, message}
      assert_refused(socket, pid, <<0x82, 0xFF, 8_000_001::64, 0::32>>, 1009, :too_big)
    end
  end

  describe "the client's close frame" do
    for code <- [1000, 1001, 1003, 1007, 1009, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] do
      test "with #{code} is echoed" do
        assert_closed(<<unquote(code)::16, "bye">>, unquote(code))
      end
    end

    test "without a code is answered with 1000" do
      assert_closed("", 1000)
    end

    test "may have a reason of 123 bytes" do
      assert_closed(<<4000::16>> <> String.duplicate("r", 123), 4000)
    end

    for code <- [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] do
      test "with #{code} closes with 1002 (RFC6455§7.4)" do
        {socket, pid} = Socket.open(Socket.serve!())

        assert_refused(
          socket,
          pid,
          frame(:close, <<unquote(code)::16>>),
          1002,
          :invalid_close_code
        )
      end
    end

    test "with a reason that is not UTF-8 closes with 1007" do
      {socket, pid} = Socket.open(Socket.serve!())
      assert_refused(socket, pid, frame(:close, <<1000::16, 255>>), 1007, :invalid_utf8)
    end

    test "is answered after the messages before it" do
      {socket, pid} = Socket.open(Socket.serve!())
      write(socket, [for(i <- 1..20, do: frame(:text, "#{i}")), frame(:close, <<1000::16>>)])
      for i <- 1..20, do: assert(recv_frame(socket) == {:text, "#{i}"})
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :closed}
    end

    test "may come inside a fragmented message, which is dropped" do
      {socket, pid} = Socket.open(Socket.serve!())
      write(socket, [frame(:text, "half", fin: false), frame(:close, <<1000::16>>)])
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :closed}
    end

    test "ends the reading: what follows it is ignored" do
      {socket, pid} = Socket.open(Socket.serve!())
      write(socket, [frame(:close, <<1000::16>>), frame(:text, "late"), frame(3, "")])
      assert recv_frame(socket) == {:close, 1000, ""}
      assert down(pid) == {:shutdown, :closed}
      assert read_all(socket) == ""
    end

    test "that comes again is ignored" do
      {socket, _pid} = Socket.open(Socket.serve!())
      write(socket, [frame(:close, <<1000::16>>), frame(:close, <<1000::16>>)])
      assert recv_frame(socket) == {:close, 1000, ""}
      assert read_all(socket) == ""
    end
  end

  describe "after our own close frame" do
    test "the client's data is ignored, also data that breaks the protocol" do
      test = self()

      server =
        Socket.serve!(
          handle_in: fn
            {"stop", _}, state ->
              {:stop, :normal, state}

            {data, _}, state ->
              send(test, {:called, data})
              {:ok, state}
          end
        )

      for after_close <- [frame(:text, "late"), frame(:text, <<255>>), frame(3, ""), <<0xC1>>] do
        {socket, pid} = Socket.open(server)

        log =
          capture_log(fn ->
            send_frame(socket, :text, "stop")
            assert recv_frame(socket) == {:close, 1000, ""}
            write(socket, after_close)
            write(socket, frame(:close, <<1000::16>>))
            assert read_all(socket) == ""
            assert down(pid) == :normal
          end)

        assert lines(log) == 0
        refute_received {:called, _data}
      end
    end

    test "the client's close frame ends TCP" do
      {socket, _pid} = Socket.open(Socket.serve!(handle_in: fn _, s -> {:stop, :normal, s} end))
      send_frame(socket, :text, "stop")
      assert recv_frame(socket) == {:close, 1000, ""}
      send_frame(socket, :close, <<1000::16>>)
      assert read_all(socket) == ""
    end
  end

  defp assert_closed(payload, code) do
    {socket, pid} = Socket.open(Socket.serve!())

    log =
      capture_log(fn ->
        send_frame(socket, :close, payload)
        assert recv_frame(socket) == {:close, code, ""}
        assert down(pid) == {:shutdown, :closed}
      end)

    assert_received {:terminated, ^pid, :remote, _state}
    assert lines(log) == 0
    assert read_all(socket) == ""
  end

  # What is logged of this file's handler, be it a line or a report.
  defp lines(log), do: length(String.split(log, inspect(Socket))) - 1

  defp time_of_fragments(socket, count) do
    bytes = fragments(count)

    {time, message} =
      :timer.tc(fn ->
        write(socket, bytes)
        recv_frame(socket, 30_000)
      end)

    assert message == {:text, String.duplicate("x", count)}
    time
  end

  defp fragments(count) do
    [
      frame(:text, "x", fin: false),
      :binary.copy(frame(:continuation, "x", fin: false), count - 2),
      frame(:continuation, "x")
    ]
  end

  defp cut(binary, sizes) do
    {parts, ""} =
      Enum.map_reduce(sizes, binary, fn size, rest ->
        <<part::binary-size(^size), rest::binary>> = rest
        {part, rest}
      end)

    parts
  end

  defp zeros(size), do: :binary.copy(<<0>>, size)

  defp drop(_message, state), do: {:ok, state}
end
