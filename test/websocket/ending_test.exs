defmodule Ferrosock.WebSocket.EndingTest do
  use ExUnit.Case, async: true

  alias Ferrosock.WebSocket.Ending

  test "the peer's close code is echoed" do
    assert %Ending{close: {4000, ""}, terminate: :remote, exit: {:exit, {:shutdown, :closed}, []}} =
             Ending.event({:close, 4000, "bye"})
  end

  test "a close frame without a code is answered with 1000" do
    assert Ending.event({:close, nil, ""}).close == {1000, ""}
  end

  test "a protocol error is told to the peer, to terminate/2 and to the log" do
    assert %Ending{
             close: {1007, "invalid utf8"},
             terminate: {:error, :invalid_utf8},
             exit: {:exit, {:shutdown, :invalid_utf8}, []},
             fault: :invalid_utf8
           } = Ending.event({:error, 1007, :invalid_utf8})
  end

  test "an idle timeout does not close with 1000, after which clients stay away" do
    assert %Ending{close: {1001, "idle timeout"}, terminate: :timeout} = Ending.event(:timeout)
  end

  test "nothing is sent to a peer that is gone" do
    assert %Ending{
             close: nil,
             terminate: {:error, :econnreset},
             exit: {:exit, {:shutdown, :closed}, []},
             fault: nil
           } = Ending.event({:closed, :econnreset})
  end

  test "a crash keeps what was raised and closes with 1011" do
    for {kind, reason, told} <- [
          {:error, :badarg, %ArgumentError{}},
          {:throw, :ball, {:nocatch, :ball}},
          {:exit, :gone, :gone}
        ] do
      ending = Ending.crash(kind, reason, [])

      assert ending.close == {1011, ""}
      assert ending.terminate == {:error, {told, []}}
      assert ending.exit == {kind, reason, []}
    end
  end
end
