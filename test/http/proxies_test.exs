defmodule Ferrosock.HTTP.ProxiesTest do
  # Clients that keep their connections, and what stands in front of servers: none of them loses a request
  # whose body the app ignores.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw
  import Plug.Conn

  alias Ferrosock.Test.Client

  @moduletag :clients
  @moduletag timeout: 120_000

  @posts "1000"

  setup do
    folder = tmp_path()
    File.mkdir!(folder)
    # Its workers may be another user's.
    File.chmod!(folder, 0o755)
    [folder: folder, port: port(serve(&answer/1, http_1_options: [max_unread_length: 1_048_576]))]
  end

  defp answer(%{path_info: ["whole", _n]} = conn), do: send_resp(conn, 200, conn.request_path)

  defp answer(%{path_info: ["chunks", _n]} = conn) do
    conn = send_chunked(conn, 200)
    {:ok, conn} = chunk(conn, conn.request_path)
    conn
  end

  defp answer(%{path_info: ["some", _n]} = conn) do
    {_more_or_ok, _some, conn} = read_body(conn, length: 10)
    send_resp(conn, 200, conn.request_path)
  end

  defp answer(%{path_info: ["all", _n]} = conn) do
    {:ok, _body, conn} = read_body(conn)
    send_resp(conn, 200, conn.request_path)
  end

  test "Node's keep-alive agent gets an answer to each POST", %{port: port} do
    posts(port)
  end

  # nginx that passes a body on as it comes resets its own client where the response is there before the body,
  # whatever server it has. What counts is that it gets the response: no 502, and no error of its own.
  for {name, buffering, allowed} <- [
        {"that passes bodies on as they come", "off", ["resets"]},
        {"that has the bodies before", "on", []}
      ] do
    test "nginx #{name} passes each POST on", %{port: port, folder: folder} do
      listens = free_port()

      config = """
      daemon off;
      worker_processes 1;
      pid #{folder}/nginx.pid;
      error_log #{folder}/error.log error;
      events {}
      http {
        access_log off;
        client_max_body_size 10m;
        client_body_temp_path #{folder}/bodies;
        proxy_temp_path #{folder}/responses;
        fastcgi_temp_path #{folder}/fastcgi;
        scgi_temp_path #{folder}/scgi;
        uwsgi_temp_path #{folder}/uwsgi;
        proxy_next_upstream off;
        upstream app { server 127.0.0.1:#{port}; keepalive 16; }
        server {
          listen 127.0.0.1:#{listens};
          location / {
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering #{unquote(buffering)};
          }
        }
      }
      """

      run!(
        folder,
        "nginx",
        config,
        &["-p", folder, "-e", "#{folder}/error.log", "-c", &1],
        listens
      )

      posts(listens, unquote(allowed))
      # It would say which connections ended too early.
      assert File.read!("#{folder}/error.log") == ""
    end
  end

  test "HAProxy passes each POST on", %{port: port, folder: folder} do
    listens = free_port()

    config = """
    global
      maxconn 256
    defaults
      mode http
      timeout connect 5s
      timeout client 30s
      timeout server 30s
      retries 0
      http-reuse always
    frontend clients
      bind 127.0.0.1:#{listens}
      default_backend app
    backend app
      server app 127.0.0.1:#{port}
    """

    run!(folder, "haproxy", config, &["-db", "-f", &1], listens)
    posts(listens)
  end

  defp posts(port, allowed \\ []),
    do: Client.run_node("ws", "posts.mjs", ["http://127.0.0.1:#{port}", @posts | allowed])

  defp run!(folder, program, config, arguments, port) do
    file = Path.join(folder, "config")
    File.write!(file, config)
    executable = System.find_executable(program) || "/usr/sbin/#{program}"

    process =
      Port.open({:spawn_executable, executable}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        args: arguments.(file)
      ])

    {:os_pid, pid} = Port.info(process, :os_pid)
    on_exit(fn -> System.cmd("kill", ["#{pid}"], stderr_to_stdout: true) end)
    eventually(fn -> not refused?(port) end)
  end
end
