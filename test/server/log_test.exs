defmodule Ferrosock.Server.LogTest do
  use ExUnit.Case, async: true

  alias Ferrosock.{Address, ListenError, Log}

  test "ten lines a second are allowed" do
    limiter = Log.limiter()

    assert for(_ <- 1..12, do: Log.allow?(limiter, -5)) ==
             List.duplicate(true, 10) ++ [false, false]

    assert Log.allow?(limiter, -4)
  end

  test "addresses read as in a URL" do
    assert Address.format({{127, 0, 0, 1}, 4000}) == "127.0.0.1:4000"
    assert Address.format({{0, 0, 0, 0, 0, 0, 0, 1}, 4000}) == "[::1]:4000"
  end

  test "an address that cannot be listened on is told in words" do
    error = %ListenError{address: {{127, 0, 0, 1}, 4000}, reason: :eaddrinuse}

    assert Exception.message(error) ==
             "cannot listen on 127.0.0.1:4000: address already in use (:eaddrinuse)"
  end
end
