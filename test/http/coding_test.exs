defmodule Ferrosock.HTTP.CodingTest do
  use ExUnit.Case, async: true

  alias Ferrosock.HTTP.{Compression, Exchange}
  alias Ferrosock.Options

  @all ["zstd", "gzip", "deflate"]
  @zstd? Code.ensure_loaded?(:zstd)
  @text String.duplicate("all work and no play, ", 100)

  describe "of the codings" do
    for {accept, coding} <- [
          {[], nil},
          {[""], nil},
          {[","], nil},
          {["gzip"], "gzip"},
          {["deflate"], "deflate"},
          {["zstd"], "zstd"},
          {["br"], nil},
          {["GZip"], "gzip"},
          {["x-gzip"], "gzip"},
          {["deflate, gzip"], "gzip"},
          {["gzip, deflate, br, zstd"], "zstd"},
          {["deflate", "gzip"], "gzip"},
          {["deflate;q=1, gzip;q=0.1"], "gzip"},
          {["gzip;q=0"], nil},
          {["gzip;q=0, deflate"], "deflate"},
          {["gzip;q=0.000"], nil},
          {["gzip;q=0.001"], "gzip"},
          {["gzip;q=1."], "gzip"},
          {["gzip;q=1.000"], "gzip"},
          {["gzip ; Q=0.5"], "gzip"},
          {["*"], "zstd"},
          {["*;q=0"], nil},
          {["gzip, *;q=0"], "gzip"},
          {["zstd;q=0, *"], "gzip"},
          {["zstd;q=0, gzip;q=0, *;q=0.1"], "deflate"},
          {["identity"], nil},
          {["identity, gzip"], "gzip"},
          {["identity;q=0.5, gzip;q=1"], "gzip"},
          {["identity;q=1, gzip;q=0.5"], nil},
          {["identity;q=0.5, gzip;q=0.4, deflate;q=0.6"], "deflate"},
          {["identity;q=0, gzip;q=0.1"], "gzip"},
          {["identity;q=0"], nil},
          {["identity, *;q=0.5"], nil},
          {["gzip;q=2"], nil},
          {["gzip;q=-1"], nil},
          {["gzip;q=0.1234"], nil},
          {["gzip;q=1e400"], nil},
          {["gzip;q=.5"], nil},
          {["gzip;q="], nil},
          {["gzip;q"], nil},
          {["gzip;level=9"], nil},
          {["gzip;q=1;level=9"], nil},
          {[";q=1"], nil},
          {[<<"gz", 0xFF, ", ", 0xC3, " , deflate">>], "deflate"}
        ] do
      @tag skip: coding == "zstd" and not @zstd?
      test "#{inspect(coding)} is taken with #{inspect(accept, binaries: :as_strings)}" do
        assert Compression.negotiate(unquote(accept), @all) == unquote(coding)
      end
    end

    test "the server's first is taken" do
      for codings <- [["deflate", "gzip"], ["deflate"], ["deflate", "zstd"]] do
        assert Compression.negotiate(["zstd, gzip, deflate"], codings) == "deflate"
      end

      assert Compression.negotiate(["zstd"], ["deflate"]) == nil
    end
  end

  # The headers of a response to a client that accepts gzip.
  defp headers(headers, body \\ @text, {method, status} \\ {"GET", 200}) do
    options = Options.server!(plug: MyApp)
    exchange = %Exchange{method: method, accept_encoding: ["gzip"], options: options}
    {headers, _body} = Compression.encode(exchange, status, headers, body)
    headers
  end

  describe "the field vary" do
    for {vary, merged} <- [
          {[], ["accept-encoding"]},
          {["origin"], ["origin, accept-encoding"]},
          {["Origin, Cookie"], ["Origin, Cookie, accept-encoding"]},
          {["origin", "cookie"], ["origin, cookie, accept-encoding"]},
          {[""], ["accept-encoding"]},
          {["accept-encoding"], ["accept-encoding"]},
          {["Origin, Accept-Encoding"], ["Origin, Accept-Encoding"]},
          {["origin", "Accept-Encoding"], ["origin", "Accept-Encoding"]},
          {["x-accept-encoding"], ["x-accept-encoding, accept-encoding"]},
          {["*"], ["*"]}
        ] do
      test "of #{inspect(vary)} becomes #{inspect(merged)}" do
        headers = headers(for value <- unquote(vary), do: {"vary", value})
        assert for({"vary", value} <- headers, do: value) == unquote(merged)
        assert {"content-encoding", "gzip"} in headers
      end
    end
  end

  describe "a response" do
    for {header, coded?} <- [
          {{"etag", ~s("strong")}, false},
          {{"etag", ~s(w/"strong")}, false},
          {{"etag", ~s(W/"weak")}, true},
          {{"content-encoding", "br"}, false},
          {{"content-encoding", "identity"}, false},
          {{"cache-control", "no-transform"}, false},
          {{"cache-control", "private, No-Transform"}, false},
          {{"cache-control", "max-age=0, private"}, true},
          {{"content-length", "7"}, true}
        ] do
      test "with #{inspect(header)} is #{if coded?, do: "coded", else: "left as it is"}" do
        given = [{"x-first", "1"}, unquote(header)]

        if unquote(coded?) do
          assert {"content-encoding", "gzip"} in headers(given)
        else
          assert headers(given) == given
        end
      end
    end

    test "that is coded has no length of the app's" do
      refute List.keymember?(headers([{"content-length", "7"}]), "content-length", 0)
    end

    for {what, method, status, size, headers} <- [
          {"with 204", "GET", 204, 5_000, []},
          {"with 206", "GET", 206, 5_000, [{"vary", "accept-encoding"}]},
          {"with 304", "GET", 304, 0, [{"vary", "accept-encoding"}]},
          {"without a body", "GET", 200, 0, []},
          {"without a body, to HEAD", "HEAD", 200, 0, [{"vary", "accept-encoding"}]},
          {"of 1,023 bytes", "GET", 200, 1_023, []},
          {"of 1,023 bytes, to HEAD", "HEAD", 200, 1_023, []}
        ] do
      test "#{what} is not coded" do
        body = String.duplicate("a", unquote(size))
        assert headers([], body, {unquote(method), unquote(status)}) == unquote(headers)
      end
    end

    test "of 1,024 bytes is coded, whatever its method and status" do
      body = List.duplicate("a", 1_024)

      for method <- ["GET", "HEAD", "POST"], status <- [200, 201, 404, 416, 500] do
        assert {"content-encoding", "gzip"} in headers([], body, {method, status})
      end
    end

    test "that coding makes no smaller is left as it is" do
      assert headers([], :crypto.strong_rand_bytes(5_000)) == [{"vary", "accept-encoding"}]
    end
  end
end
