defmodule Ferrosock.HTTP.LargeTest do
  # Not async: what is large here would keep the deadlines of other tests waiting, and the memory is
  # that of the whole node.
  use ExUnit.Case, async: false

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Logs

  test "a file of 50 MB is not read into memory ahead of its clients" do
    path = tmp_path()
    File.write!(path, :binary.copy("0123456789", 5_000_000))
    server = serve(fn conn -> send_file(conn, 200, path) end)
    :erlang.garbage_collect()
    before = memory()

    [socket | _] =
      sockets =
      for _ <- 1..8 do
        socket = connect(server, recbuf: 16_384)
        write(socket, head("GET", "/"))
        assert read(socket, 4) == "HTTP"
        socket
      end

    assert memory() - before < 40_000_000
    skip_head(socket)
    assert length_read(socket, 50_000_000) == 50_000_000
    assert memory() - before < 40_000_000
    Enum.each(sockets, &:gen_tcp.close/1)
  end

  test "a file of 1 GiB is sent whole, and is in memory at no time" do
    path = tmp_path()
    size = 1_073_741_824
    # Most of it are holes; what is between them is told apart by where it is.
    marks = for n <- 0..63, do: {n * 16_777_216 + n * 65_521, mark(n)}

    File.open!(path, [:write, :raw], fn file ->
      :ok = :file.pwrite(file, [{size - 1, "!"} | marks])
    end)

    socket = fn conn -> send_file(conn, 200, path) end |> serve() |> connect()
    write(socket, head("GET", "/"))
    skip_head(socket)
    before = memory()

    finished =
      Enum.reduce(marks, 0, fn {offset, mark}, read ->
        assert length_read(socket, offset - read) == offset - read
        assert same?(read(socket, byte_size(mark)), mark)
        offset + byte_size(mark)
      end)

    assert memory() - before < 100_000_000
    assert length_read(socket, size - finished - 1) == size - finished - 1
    assert read(socket, 1) == "!"
  end

  defp mark(n), do: for(i <- 1..20_000, into: "", do: <<n, i::24>>)

  # Not by an assertion that would print both.
  defp same?(one, other), do: one == other

  # The resident memory of this very process of the operating system.
  defp memory do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1000
  end

  defp skip_head(socket) do
    :inet.setopts(socket, packet: :line)

    case :gen_tcp.recv(socket, 0, 20_000) do
      {:ok, "\r\n"} -> :inet.setopts(socket, packet: :raw)
      {:ok, _line} -> skip_head(socket)
    end
  end

  defp length_read(socket, length, read \\ 0)
  defp length_read(_socket, length, length), do: length

  defp length_read(socket, length, read) do
    {:ok, data} = :gen_tcp.recv(socket, min(length - read, 1_000_000), 5_000)
    length_read(socket, length, read + byte_size(data))
  end

  # Counted, because the time between two of them is the machine's too.
  for coding <- ["gzip", "deflate", "zstd"] do
    @tag skip: coding == "zstd" and not Code.ensure_loaded?(:zstd)
    test "to compress 50 MB gives the scheduler back at each MB: #{coding}" do
      test = self()
      # Little is left of it: a call into zstd returns when its output is full.
      body = :binary.copy("0123456789", 5_000_000)

      server =
        serve(fn conn ->
          :erlang.trace(self(), true, [:running, tracer: test])
          conn = send_resp(conn, 200, body)
          :erlang.trace(self(), false, [:running])
          send(test, {:sent, self()})
          conn
        end)

      socket = connect(server)
      write(socket, head("GET", "/", [{"accept-encoding", unquote(coding)}]))
      assert_receive {:sent, pid}, 60_000
      assert header(response(socket), "content-encoding") == [unquote(coding)]
      assert times_out(pid) > 50
    end
  end

  defp times_out(pid, times \\ 0) do
    receive do
      {:trace, ^pid, :out, _function} -> times_out(pid, times + 1)
    after
      0 -> times
    end
  end

  describe "Plug.Parsers" do
    test "stores an upload of 1 GB, and no more than a part of it is ever in memory" do
      test = self()
      piece = :crypto.strong_rand_bytes(1_000_000)

      server =
        serve(fn conn ->
          %{"file" => file, "name" => "value"} = parse(conn, 1_100_000_000).body_params

          send(
            test,
            {:upload, file.filename, file.content_type, repeats?(file.path, piece, 1_000)}
          )
        end)

      :erlang.garbage_collect()
      {binaries, resident} = {:erlang.memory(:binary), memory()}
      pieces = List.duplicate(piece, 1_000)
      uploading = Task.async(fn -> server |> connect() |> upload(pieces) end)
      {response, most_binaries, most_resident} = most_memory(uploading)
      assert response.status == 200
      assert_receive {:upload, "data.bin", "application/octet-stream", true}
      assert most_binaries - binaries < 60_000_000
      assert most_resident - resident < 100_000_000
    end

    # What the task returns, and the most memory that there was before.
    defp most_memory(task, binaries \\ 0, resident \\ 0) do
      binaries = max(binaries, :erlang.memory(:binary))
      resident = max(resident, memory())

      case Task.yield(task, 10) do
        {:ok, result} -> {result, binaries, resident}
        nil -> most_memory(task, binaries, resident)
      end
    end

    defp repeats?(path, piece, times) do
      File.open!(path, [:read, :binary, :raw], fn file ->
        Enum.all?(1..times, fn _ -> :file.read(file, byte_size(piece)) == {:ok, piece} end) and
          :file.read(file, 1) == :eof
      end)
    end

    test "refuses what is too large with 413, which a client can read that sends it all first" do
      Logs.attach()
      test = self()

      server =
        serve(fn conn ->
          send(test, {:plug, self()})
          parse(conn, 100_000)
        end)

      for megabytes <- [1, 10, 50] do
        socket = connect(server)
        megabyte = :binary.copy("x", 1_000_000)
        assert %{status: 413} = upload(socket, List.duplicate(megabyte, megabytes))
        assert closed?(socket)
        assert_receive {:plug, pid}
        assert Logs.taken(pid) == []
      end
    end
  end

  defp parse(conn, length) do
    Plug.Parsers.call(conn, Plug.Parsers.init(parsers: [:multipart], length: length))
  end

  defp upload(socket, pieces) do
    body = multipart("name", pieces)

    headers = [
      {"content-length", IO.iodata_length(body)},
      {"content-type", "multipart/form-data; boundary=xx"}
    ]

    write(socket, head("POST", "/", headers))
    for part <- List.flatten(body), do: write(socket, part)
    response(socket)
  end
end
