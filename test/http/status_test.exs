defmodule Ferrosock.HTTP.StatusTest do
  use ExUnit.Case, async: true

  alias Ferrosock.HTTP.Status

  test "a status goes down with the phrase that Plug has for it, or with an empty one" do
    assert Status.line(:"HTTP/1.1", 200) == 200
    assert Status.line(:"HTTP/1.1", 404) == {404, "Not Found"}
    assert Status.line(:"HTTP/1.0", 499) == {499, ""}
    assert Status.line(:"HTTP/1.1", 0) == {0, ""}
    assert Status.line(:"HTTP/2", 404) == 404
  end
end
