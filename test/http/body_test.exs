defmodule Ferrosock.HTTP.BodyTest do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Native
  alias Ferrosock.Test.Logs

  # A server that sends back the body that it reads with the options.
  defp echo(options \\ []) do
    connect(
      serve(fn conn ->
        {body, conn} = read_all_of(conn, options, [])
        send_resp(conn, 200, body)
      end)
    )
  end

  defp read_all_of(conn, options, read) do
    case read_body(conn, options) do
      {:more, data, conn} -> read_all_of(conn, options, [read | data])
      {:ok, data, conn} -> {[read | data], conn}
    end
  end

  defp post(socket, body, headers \\ []),
    do: request(socket, "POST", "/", [{"content-length", byte_size(body)} | headers], body)

  defp chunked(socket, chunks, headers \\ []),
    do: request(socket, "POST", "/", [{"transfer-encoding", "chunked"} | headers], coded(chunks))

  defp coded(chunks),
    do:
      Enum.map_join(chunks, &"#{Integer.to_string(byte_size(&1), 16)}\r\n#{&1}\r\n") <>
        "0\r\n\r\n"

  # What the calls of `fun` return, which gets the conn; they are sent to the test.
  defp serve_reading(fun, options \\ []) do
    test = self()

    serve(
      fn conn ->
        send(test, {:plug, self()})
        send(test, {:read, fun.(conn)})
      end,
      options
    )
  end

  defp result({result, data, %Plug.Conn{}}), do: {result, data}
  defp result(error), do: error

  describe "a body with a length" do
    test "is read whole" do
      socket = echo()

      for body <- ["", "a", "body", :binary.copy("x", 100_000)],
          do: assert(post(socket, body).body == body)
    end

    test "is read by `length` bytes at a time" do
      socket =
        connect(
          serve_reading(fn conn ->
            {:more, one, conn} = read_body(conn, length: 4)
            {:more, two, conn} = read_body(conn, length: 4)
            {:ok, three, conn} = read_body(conn, length: 4)
            {:ok, four, _conn} = read_body(conn, length: 4)
            [one, two, three, four]
          end)
        )

      post(socket, "0123456789")
      assert_receive {:read, ["0123", "4567", "89", ""]}
    end

    test "is asked about with a `length` of 0" do
      socket =
        connect(
          serve_reading(fn conn ->
            {:more, "", conn} = read_body(conn, length: 0)
            {:ok, "0123", conn} = read_body(conn, length: 10)
            read_body(conn, length: 0) |> result()
          end)
        )

      post(socket, "0123")
      assert_receive {:read, {:ok, ""}}
      empty = connect(serve_reading(fn conn -> conn |> read_body(length: 0) |> result() end))
      request(empty, "GET", "/")
      assert_receive {:read, {:ok, ""}}
    end

    test "is read with any limit that there is no more of than of numbers" do
      for options <- [
            [length: :infinity],
            [length: 2 ** 70],
            [read_timeout: :infinity],
            [read_timeout: 2 ** 70],
            [read_timeout: 2 ** 64 - 1],
            [length: 0xFFFFFFFFFFFF, read_timeout: 0xFFFFFFFFFFFF]
          ] do
        assert post(echo(options), "0123456789").body == "0123456789"
      end
    end

    test "may have no time at all" do
      socket =
        connect(serve_reading(fn conn -> conn |> read_body(read_timeout: 0) |> result() end))

      write(socket, head("POST", "/", [{"content-length", "10"}]))
      assert_receive {:read, {:error, :timeout}}
    end

    test "is not read with limits that are none, which the error names" do
      test = self()

      for {name, value} <- [
            length: -1,
            length: "1",
            length: nil,
            read_timeout: -1,
            read_timeout: 1.5
          ] do
        socket =
          connect(
            serve(fn conn ->
              error = assert_raise ArgumentError, fn -> read_body(conn, [{name, value}]) end
              send(test, {:told, error.message})
            end)
          )

        post(socket, "body")
        assert_receive {:told, text}

        assert text =~
                 "invalid value for option #{inspect(name)} of read_body/2: #{inspect(value)}"
      end
    end

    test "that fits `length` exactly is told whole at once or with a last empty read" do
      socket = echo(length: 5)
      assert post(socket, "01234").body == "01234"
      assert post(socket, "0123456789").body == "0123456789"
    end

    test "of several megabytes is the same for any `length` and `read_length`" do
      body = :crypto.strong_rand_bytes(3_000_000)

      for options <- [
            [],
            [length: 1_000_000],
            [length: 65_537, read_length: 1_000],
            [length: 5_000_000]
          ] do
        assert post(echo(options), body).body == body
      end
    end

    test "that arrives byte by byte is the same as at once" do
      socket = echo()
      write(socket, head("POST", "/", [{"content-length", "10"}]))
      for <<byte <- "0123456789">>, do: write(socket, <<byte>>)
      assert response(socket).body == "0123456789"
    end

    test "may be read by another process" do
      socket =
        connect(
          serve(fn conn ->
            {:ok, body, conn} = Task.await(Task.async(fn -> read_body(conn) end))
            send_resp(conn, 200, body)
          end)
        )

      assert post(socket, "from a task").body == "from a task"
    end

    test "belongs to the methods that seldom have one, too" do
      socket = echo()

      for method <- ["GET", "DELETE", "OPTIONS"] do
        assert request(socket, method, "/", [{"content-length", "4"}], "body").body == "body"
      end
    end

    test "that is read after the response was sent is whole or an error" do
      test = self()

      socket =
        connect(
          serve(fn conn ->
            conn = send_resp(conn, 200, "sent")
            send(test, {:read, conn |> read_body() |> result()})
            conn
          end)
        )

      for _ <- 1..20 do
        assert post(socket, "body").body == "sent"
        assert_receive {:read, read}
        assert read in [{:ok, "body"}, {:error, :closed}]
      end
    end
  end

  describe "a chunked body (RFC9112§7.1)" do
    test "is read without its coding" do
      socket = echo()
      assert chunked(socket, []).body == ""

      assert chunked(socket, ["one", "two", String.duplicate("x", 70_000)]).body ==
               "onetwo" <> String.duplicate("x", 70_000)
    end

    test "is read by `length` bytes at a time, across chunks" do
      socket =
        connect(
          serve_reading(fn conn ->
            {:more, one, conn} = read_body(conn, length: 4)
            {:ok, two, _conn} = read_body(conn, length: 100)
            [one, two]
          end)
        )

      chunked(socket, ["012", "345", "678"])
      assert_receive {:read, ["0123", "45678"]}
    end

    test "may have extensions and trailers, which are dropped" do
      socket = echo()
      write(socket, head("POST", "/", [{"transfer-encoding", "chunked"}]))

      write(
        socket,
        "3;name=value;other=\"q\"\r\none\r\n0003\r\ntwo\r\n0;last\r\nx-trailer: value\r\n\r\n"
      )

      assert response(socket).body == "onetwo"
      assert post(socket, "next").body == "next"
    end

    test "of a thousand chunks in single bytes is the same as at once" do
      socket = echo()
      write(socket, head("POST", "/", [{"transfer-encoding", "chunked"}]))
      for <<byte <- coded(List.duplicate("x", 1_000))>>, do: write(socket, <<byte>>)
      assert response(socket).body == String.duplicate("x", 1_000)
    end
  end

  describe "a body that does not come" do
    test "is a timeout after `read_timeout`" do
      socket =
        connect(serve_reading(fn conn -> conn |> read_body(read_timeout: 50) |> result() end))

      write(socket, head("POST", "/", [{"content-length", "4"}]) <> "bo")
      assert_receive {:read, {:error, :timeout}}
      assert %{status: 200} = response(socket)
    end

    test "is a timeout too where the size of a chunk does not end" do
      socket =
        connect(serve_reading(fn conn -> conn |> read_body(read_timeout: 50) |> result() end))

      write(socket, head("POST", "/", [{"transfer-encoding", "chunked"}]))
      write(socket, :binary.copy("0", 1_000_000))
      assert_receive {:read, {:error, :timeout}}
      assert %{status: 200} = response(socket)
      assert closed?(socket)
    end

    test "in time may be read after the timeout, from where it was" do
      test = self()

      server =
        serve_reading(fn conn ->
          send(test, {:first, read_body(conn, read_timeout: 50)})
          assert_receive :continue
          conn |> read_body() |> result()
        end)

      socket = connect(server)
      write(socket, head("POST", "/", [{"content-length", "4"}]) <> "bo")
      assert_receive {:plug, pid}
      assert_receive {:first, {:error, :timeout}}
      write(socket, "dy")
      send(pid, :continue)
      assert_receive {:read, {:ok, "body"}}
    end

    test "is 408 by way of Plug.Parsers (RFC9110§15.5.9)" do
      Logs.attach()
      test = self()

      server =
        serve(fn conn ->
          send(test, {:plug, self()})
          parse(conn, read_timeout: 50)
        end)

      socket = connect(server)
      headers = [{"content-type", "application/x-www-form-urlencoded"}, {"content-length", "10"}]
      write(socket, head("POST", "/", headers) <> "a=")
      assert %{status: 408} = response(socket)
      assert closed?(socket)
      assert_receive {:plug, pid}
      assert Logs.taken(pid) == []
    end

    test "because the client left is an error" do
      for length <- [{"content-length", "4"}, {"transfer-encoding", "chunked"}] do
        socket = connect(serve_reading(fn conn -> conn |> read_body() |> result() end))
        write(socket, head("POST", "/", [length]) <> "2")
        assert_receive {:plug, _pid}
        :gen_tcp.close(socket)
        assert_receive {:read, {:error, :closed}}
      end
    end

    test "because its coding is broken is an error, and the connection ends" do
      for coded <- [
            "x\r\n",
            "-1\r\n",
            "3\r\nabcd\r\n",
            "3\nabc\n",
            "FFFFFFFFFFFFFFFFF\r\n",
            "\r\n",
            " 3\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            "3 3\r\nabc\r\n",
            "+3\r\nabc\r\n",
            ";x\r\nabc\r\n",
            "3;x\nabc\r\n",
            "3;x\ry\r\nabc\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\rabc\r\n",
            "\r\n3\r\nabc\r\n",
            "0\r\nname: a\0b\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nbad trailer\r\n\r\n",
            "0\r\nname : value\r\n\r\n",
            "0\r\n" <> String.duplicate("x-trailer: value\r\n", 10_000) <> "\r\n",
            "3;" <> String.duplicate("x", 100_000) <> "\r\nabc\r\n0\r\n\r\n"
          ] do
        socket = connect(serve_reading(fn conn -> conn |> read_body() |> result() end))
        # The server may have closed before it has read all of this.
        _ = :gen_tcp.send(socket, head("POST", "/", [{"transfer-encoding", "chunked"}]) <> coded)
        assert_receive {:read, {:error, :closed}}, 1_000, "#{inspect(coded, limit: 20)} was read"
        assert closed?(socket)
      end
    end
  end

  describe "Plug.Parsers" do
    test "reads a form" do
      socket =
        connect(
          serve(fn conn ->
            conn = parse(conn)
            send_resp(conn, 200, inspect(conn.body_params))
          end)
        )

      response =
        post(socket, "a=1&b=%20x", [{"content-type", "application/x-www-form-urlencoded"}])

      assert response.body == inspect(%{"a" => "1", "b" => " x"})
    end

    test "stores a chunked upload" do
      test = self()
      data = :crypto.strong_rand_bytes(1_000_000)

      socket =
        connect(
          serve(fn conn ->
            %{"file" => file} = parse(conn).body_params
            send(test, {:upload, File.read!(file.path) == data})
          end)
        )

      form = "name" |> multipart(data) |> IO.iodata_to_binary()
      pieces = for <<piece::binary-size(8_191) <- form>>, do: piece

      rest =
        binary_part(
          form,
          8_191 * length(pieces),
          rem(byte_size(form), 8_191)
        )

      chunked(socket, pieces ++ [rest], [{"content-type", "multipart/form-data; boundary=xx"}])
      assert_receive {:upload, true}
    end
  end

  defp parse(conn, options \\ []) do
    Plug.Parsers.call(conn, Plug.Parsers.init([parsers: [:urlencoded, :multipart]] ++ options))
  end

  describe "a body that is not read" do
    setup do
      [socket: connect(serve(fn conn -> send_resp(conn, 200, conn.request_path) end))]
    end

    test "is not taken for the next request (RFC9112§9.3)", %{socket: socket} do
      smuggled = head("GET", "/smuggled")
      headers = [{"content-length", byte_size(smuggled)}]
      write(socket, head("POST", "/first", headers) <> smuggled <> head("GET", "/next"))
      assert response(socket).body == "/first"
      assert response(socket).body == "/next"
    end

    test "is not taken for the next request when it is chunked", %{socket: socket} do
      bytes = head("POST", "/first", [{"transfer-encoding", "chunked"}])
      write(socket, bytes <> coded([head("GET", "/smuggled")]) <> head("GET", "/next"))
      assert response(socket).body == "/first"
      assert response(socket).body == "/next"
    end

    test "and has not all come ends the connection", %{socket: socket} do
      write(socket, head("POST", "/first", [{"content-length", "1000"}]) <> "part")
      assert response(socket).body == "/first"
      _ = :gen_tcp.send(socket, head("GET", "/smuggled"))
      refute read_all(socket) =~ "smuggled"
    end

    test "in part only is no part of the next request" do
      socket =
        connect(
          serve(fn conn ->
            {_, read, conn} = read_body(conn, length: 3)
            send_resp(conn, 200, conn.request_path <> " " <> read)
          end)
        )

      write(
        socket,
        head("POST", "/first", [{"content-length", "8"}]) <> "abcGET /" <> head("GET", "/next")
      )

      assert response(socket).body == "/first abc"
      assert response(socket).body == "/next "
    end
  end

  describe "the expectation of 100-continue (RFC9110§10.1.1)" do
    @expecting [{"expect", "100-continue"}, {"content-length", "4"}]

    test "is met when the body is read, and not before" do
      server =
        serve_reading(fn conn ->
          assert_receive :continue
          conn |> read_body() |> result()
        end)

      socket = connect(server)
      write(socket, head("POST", "/", @expecting))
      assert_receive {:plug, pid}
      assert {:error, :timeout} = :gen_tcp.recv(socket, 0, 100)
      send(pid, :continue)
      assert %{status: 100} = response(socket)
      write(socket, "body")
      assert_receive {:read, {:ok, "body"}}
      assert %{status: 200} = response(socket)
    end

    test "is not met when the body is not read, and the connection ends" do
      socket = connect(serve(fn conn -> send_resp(conn, 403, "no") end))
      write(socket, head("POST", "/", @expecting))
      assert %{status: 403, body: "no"} = response(socket)
      assert closed?(socket)
    end

    test "is met once, however often is read" do
      socket = echo(length: 2)
      write(socket, head("POST", "/", @expecting))
      assert %{status: 100} = response(socket)
      write(socket, "body")
      assert %{status: 200, body: "body"} = response(socket)
    end

    test "is not met where there is no body to wait for" do
      socket = echo()
      write(socket, head("POST", "/", [{"expect", "100-continue"}, {"content-length", "0"}]))
      assert %{status: 200} = response(socket)
    end

    test "is met in any case, and whatever else is expected is ignored" do
      socket = echo()

      for {expected, statuses} <- [{"100-Continue", [100, 200]}, {"200-ok", [200]}] do
        write(socket, head("POST", "/", [{"expect", expected}, {"content-length", "4"}]))
        write(socket, "body")
        assert for(_ <- statuses, do: response(socket).status) == statuses
      end
    end

    test "is nothing to HTTP/1.0" do
      socket = echo()
      write(socket, "POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
      assert {:error, :timeout} = :gen_tcp.recv(socket, 0, 50)
      write(socket, "body")
      assert %{status: 200, body: "body"} = response(socket)
    end
  end

  test "two reads at once are one too many, whoever makes them" do
    socket =
      connect(
        serve_reading(fn %{adapter: {_adapter, %{handle: exchange}}} ->
          [first, second] = [make_ref(), make_ref()]
          :ok = Native.exchange_read(exchange, 10, 5_000, first)
          :ok = Native.exchange_read(exchange, 10, 5_000, second)
          assert_receive {^second, {:error, :already_reading}}
          assert_receive {^first, read}
          read
        end)
      )

    write(socket, head("POST", "/", [{"content-length", "4"}]))
    assert_receive {:plug, _pid}
    write(socket, "body")
    assert_receive {:read, {:ok, "body"}}
  end
end
