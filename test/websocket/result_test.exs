defmodule Ferrosock.WebSocket.ResultTest do
  use ExUnit.Case, async: true

  alias Ferrosock.WebSocket.{Ending, Result}

  test "{:ok, state} sends nothing" do
    assert Result.read({:ok, :s}) == {:ok, :s, []}
  end

  test "{:push, _, state} and {:reply, _, _, state} send one message or several, in order" do
    assert Result.read({:push, {:text, "a"}, :s}) == {:ok, :s, [text: "a"]}
    assert Result.read({:push, [text: "a", ping: nil], :s}) == {:ok, :s, [text: "a", ping: nil]}
    assert Result.read({:push, [], :s}) == {:ok, :s, []}
    assert Result.read({:reply, :ok, {:binary, ["a", ?b]}, :s}) == {:ok, :s, [binary: ["a", ?b]]}
  end

  for {reason, close, terminate} <- [
        {:normal, {1000, ""}, :normal},
        {{:shutdown, :disconnected}, {1000, ""}, :normal},
        {{:shutdown, :restart}, {1012, ""}, :normal},
        {:shutdown, {1011, ""}, {:error, :shutdown}},
        {:boom, {1011, ""}, {:error, :boom}}
      ] do
    test "{:stop, #{inspect(reason)}, state} closes with #{inspect(close)}" do
      reason = unquote(Macro.escape(reason))

      assert {:stop, :s, [], ending} = Result.read({:stop, reason, :s})
      assert ending.close == unquote(Macro.escape(close))
      assert ending.terminate == unquote(Macro.escape(terminate))
      assert ending.exit == {:exit, reason, []}
    end
  end

  test "a close detail replaces the close frame and not the reasons" do
    for {detail, close} <- [
          {4001, {4001, ""}},
          {{1003, nil}, {1003, ""}},
          {{1008, ["no", ?!]}, {1008, "no!"}},
          {{4999, String.duplicate("r", 123)}, {4999, String.duplicate("r", 123)}}
        ] do
      assert {:stop, :s, [], %Ending{close: ^close, terminate: {:error, :boom}}} =
               Result.read({:stop, :boom, detail, :s})
    end
  end

  test "messages of a stop are sent" do
    assert {:stop, :s, [text: "bye"], %Ending{close: {1000, ""}}} =
             Result.read({:stop, :normal, 1000, {:text, "bye"}, :s})
  end

  for code <- [0, 999, 1004, 1005, 1006, 1015, 5000, :normal] do
    test "the close code #{inspect(code)} is refused" do
      assert {:error, text} = Result.read({:stop, :normal, unquote(code), :s})
      assert text =~ "the close code #{inspect(unquote(code))} must not be sent"
    end
  end

  test "a close reason that cannot be sent is refused" do
    assert {:error, text} =
             Result.read({:stop, :normal, {1000, String.duplicate("r", 124)}, :s})

    assert text =~ "the close reason has 124 bytes, but at most 123"
    assert {:error, text} = Result.read({:stop, :normal, {1000, <<255>>}, :s})
    assert text =~ "not valid UTF-8"
    assert {:error, text} = Result.read({:stop, :normal, {1000, :a}, :s})
    assert text =~ "not iodata"
  end

  test "a message that cannot be sent is refused" do
    for {messages, part} <- [
          {{:frame, "a"}, "{:frame, \"a\"} is not a message"},
          {{:close, "a"}, "is not a message"},
          {:text, ":text is not a message"},
          {{:text, :a}, "payload that is not iodata"},
          {{:binary, [256]}, "payload that is not iodata"},
          {[{:text, "a"} | :b], "not a proper list"},
          {[{:text, "a"}, "b"], "\"b\" is not a message"}
        ] do
      assert {:error, text} = Result.read({:push, messages, :s})
      assert text =~ part
    end
  end

  test "a ping or pong alone is an empty one, as Cowboy takes it" do
    assert Result.read({:push, :ping, :s}) == {:ok, :s, [ping: nil]}
    assert Result.read({:push, [{:text, "a"}, :pong], :s}) == {:ok, :s, [text: "a", pong: nil]}
    assert {:stop, :s, [ping: nil], _ending} = Result.read({:stop, :normal, 1000, :ping, :s})
    assert {:error, text} = Result.read({:push, [:ping | :pong], :s})
    assert text =~ "not a proper list"
  end

  test "what closes a WebSocket of Cowboy is refused with what closes one here" do
    for message <- [:close, {:close, "bye"}, {:close, 1000, "bye"}, [{:text, "a"}, :close]] do
      assert {:error, text} = Result.read({:push, message, :s})
      assert text =~ "is closed by {:stop, :normal, code, state}"
    end
  end

  test "a ping or pong over 125 bytes is refused" do
    assert {:ok, :s, _} = Result.read({:push, {:ping, String.duplicate("p", 125)}, :s})
    assert {:error, text} = Result.read({:push, {:pong, String.duplicate("p", 126)}, :s})
    assert text =~ "126 bytes, but at most 125"
  end

  test "any other term is refused with what is accepted" do
    for result <- [:ok, {:noreply, :s}, {:push, {:text, "a"}}, nil] do
      assert {:error, "expected {:ok, state}" <> _} = Result.read(result)
    end
  end

  test "the error names the callback and what it returned" do
    error = %Ferrosock.ResultError{
      websock: MyApp.Echo,
      callback: :handle_in,
      arity: 2,
      result: :oops,
      explanation: "expected more"
    }

    assert Exception.message(error) == "MyApp.Echo.handle_in/2 returned :oops: expected more"
  end
end
