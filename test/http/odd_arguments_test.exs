defmodule Ferrosock.HTTP.OddArgumentsTest do
  # What a Plug passes that no response can have: an error where it was passed, and nothing of it sent.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  @moduletag :capture_log

  # Serves what the function makes, and tells what it raised; then an answer that is whole.
  defp raised(fun) do
    test = self()

    server =
      serve(fn conn ->
        result =
          try do
            {:returned, fun.(conn)}
          rescue
            error -> {:raised, error.__struct__}
          end

        send(test, result)

        if match?({:raised, _}, result),
          do: send_resp(conn, 200, "after all"),
          else: elem(result, 1)
      end)

    socket = connect(server)
    write(socket, head("GET", "/") <> head("GET", "/"))
    first = response(socket)
    second = response(socket)
    assert first == %{second | headers: first.headers}
    assert_receive {kind, what}
    {kind, what, first}
  end

  for {name, fun} <- [
        {"a status of 99", quote(do: &send_resp(&1, 99, ""))},
        {"a status of 100",
         quote(do: &send_resp(%{&1 | state: :set, status: 100, resp_body: ""}))},
        {"a status of 101",
         quote(do: &send_resp(%{&1 | state: :set, status: 101, resp_body: ""}))},
        {"a status of 199",
         quote(do: &send_resp(%{&1 | state: :set, status: 199, resp_body: ""}))},
        {"a status of 1000",
         quote(do: &send_resp(%{&1 | state: :set, status: 1000, resp_body: ""}))},
        {"a negative status",
         quote(do: &send_resp(%{&1 | state: :set, status: -1, resp_body: ""}))},
        {"a status that is no number",
         quote(do: &send_resp(%{&1 | state: :set, status: :ok, resp_body: ""}))},
        {"a body that is an improper list", quote(do: &send_resp(&1, 200, ["a" | :b]))},
        {"a body of code points", quote(do: &send_resp(&1, 200, [0x20AC]))},
        {"a body that is a map", quote(do: &send_resp(&1, 200, %{}))},
        {"a value with CR and LF",
         quote(do: &send_resp(%{&1 | resp_headers: [{"a", "b\r\nc: d"}]}, 200, ""))},
        {"a value with NUL", quote(do: &send_resp(%{&1 | resp_headers: [{"a", "\0"}]}, 200, ""))},
        {"a name with a colon",
         quote(do: &send_resp(%{&1 | resp_headers: [{"a:", "b"}]}, 200, ""))},
        {"an empty name", quote(do: &send_resp(%{&1 | resp_headers: [{"", "b"}]}, 200, ""))},
        {"a value that is a number",
         quote(do: &send_resp(%{&1 | resp_headers: [{"a", 1}]}, 200, ""))},
        {"a chunked status of 100", quote(do: &send_chunked(&1, 100))},
        {"chunks with two lengths",
         quote(
           do:
             &send_chunked(
               %{&1 | resp_headers: [{"Content-Length", "1"}, {"content-length", "2"}]},
               200
             )
         )},
        {"a file that is not there", quote(do: &send_file(&1, 200, "/nowhere"))},
        {"a folder", quote(do: &send_file(&1, 200, "/"))},
        {"a file from before its start", quote(do: &send_file(&1, 200, __ENV__.file, -1))},
        {"a file of a negative length", quote(do: &send_file(&1, 200, __ENV__.file, 0, -1))},
        {"a file past its end", quote(do: &send_file(&1, 200, __ENV__.file, 1, 1_000_000_000))},
        {"a file from past 64 bits",
         quote(do: &send_file(&1, 200, __ENV__.file, 0x1_0000_0000_0000_0000, 1))},
        {"a path with NUL", quote(do: &send_file(&1, 200, "/dev\0/null"))},
        {"a file with status 100", quote(do: &send_file(&1, 100, __ENV__.file))},
        {"an interim status of 101", quote(do: &inform!(&1, 101))},
        {"an interim status of 200", quote(do: &inform!(&1, 200))},
        {"an interim value with LF", quote(do: &inform!(&1, 103, [{"link", "a\nb"}]))}
      ] do
    test "#{name} raises, and another response can be sent" do
      assert {:raised, _exception, %{status: 200, body: "after all"}} = raised(unquote(fun))
    end
  end

  test "a large header value is sent as it is" do
    value = :binary.copy("v", 300_000)
    fun = &send_resp(%{&1 | resp_headers: [{"x-large", value}]}, 200, "ok")
    assert {:returned, _conn, %{status: 200, body: "ok"}} = raised_raw(fun, value)
  end

  # The packet parser of :gen_tcp does not take such a line.
  defp raised_raw(fun, value) do
    socket = connect(serve(fun))
    write(socket, head("GET", "/", [{"connection", "close"}]))
    text = read_all(socket)
    assert text =~ "x-large: " <> value <> "\r\n"
    [_head, body] = String.split(text, "\r\n\r\n")
    {:returned, nil, %{status: 200, body: body}}
  end

  test "chunks that are odd lose nothing" do
    test = self()

    server =
      serve(fn conn ->
        conn = send_chunked(conn, 200)
        {:ok, conn} = chunk(conn, "")
        {:ok, conn} = chunk(conn, ["a", [?b | "c"], []])
        send(test, {:raised, catch_error(chunk(conn, ["d" | :e]))})
        send(test, {:raised, catch_error(chunk(conn, :f))})
        {:ok, conn} = chunk(conn, "g")
        conn
      end)

    socket = connect(server)
    assert %{body: "abcg"} = request(socket, "GET", "/")
    for _ <- 1..2, do: assert_receive({:raised, _error})
    assert %{body: "abcg"} = request(socket, "GET", "/")
  end

  test "a chunk before its response, and one after it, are none" do
    server =
      serve(fn conn ->
        assert_raise ArgumentError, fn -> chunk(conn, "too early") end
        conn = send_resp(conn, 200, "whole")
        assert_raise ArgumentError, fn -> chunk(conn, "too late") end
        conn
      end)

    socket = connect(server)
    for _ <- 1..2, do: assert(%{body: "whole"} = request(socket, "GET", "/"))
  end

  test "an interim response says nothing of a body (RFC9110§8.6)" do
    server =
      serve(fn conn ->
        conn = inform!(conn, 103, [{"Content-Length", "9"}, {"a", "b"}])
        conn = inform!(conn, 199)
        send_resp(conn, 200, "ok")
      end)

    socket = connect(server)
    write(socket, head("GET", "/", [{"connection", "close"}]))
    text = read_all(socket)

    assert text =~
             ~r"\AHTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 199 \r\n\r\nHTTP/1.1 200 OK\r\n"
  end
end
