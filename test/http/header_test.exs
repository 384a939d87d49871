defmodule Ferrosock.HTTP.HeaderTest do
  use ExUnit.Case, async: true

  alias Ferrosock.HTTP.Header

  test "names are the same in any case (RFC9110§5.1)" do
    for name <- ["content-length", "Content-Length", "CONTENT-LENGTH", "cOnTeNt-lEnGtH"],
        do: assert(Header.named?(name, "content-length"))

    for name <- ["", "content-lengt", "content-length ", "content_length", "content-lengtH\u0130"],
        do: refute(Header.named?(name, "content-length"))
  end

  test "put/3 and delete/2 take all fields of the name, and leave the others in order" do
    headers = [{"A", "1"}, {"ETag", "2"}, {"b", "3"}, {"etag", "4"}]
    assert Header.delete(headers, "etag") == [{"A", "1"}, {"b", "3"}]
    assert Header.put(headers, "etag", "5") == [{"etag", "5"}, {"A", "1"}, {"b", "3"}]
    assert Header.delete(headers, "c") == headers
  end
end
