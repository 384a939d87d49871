defmodule Sample.HTTPCase do
  # What an endpoint serves besides sockets. Not async: what is logged is the whole VM's.
  use ExUnit.Case

  import ExUnit.CaptureLog
  import Ferrosock.Test.Raw

  defmodule Pages do
    use Phoenix.Controller, formats: [:html]

    def form(conn, _params), do: text(conn, Plug.CSRFProtection.get_csrf_token())
    def submit(conn, %{"name" => name}), do: text(put_session(conn, :name, name), "saved")

    def upload(conn, %{"file" => upload}),
      do: text(conn, "#{upload.filename}: #{File.stat!(upload.path).size} bytes")

    def name(conn, _params), do: text(conn, "name: #{get_session(conn, :name)}")
    def fail(_conn, _params), do: raise("asked to fail")

    def file(conn, _params),
      do: send_download(conn, {:file, __ENV__.file}, filename: "source.exs")

    def chunks(conn, _params) do
      conn = send_chunked(conn, 200)

      Enum.reduce(~w(one two three), conn, fn text, conn ->
        {:ok, conn} = chunk(conn, text)
        conn
      end)
    end
  end

  defmodule Router do
    use Phoenix.Router, helpers: false

    pipeline :browser do
      plug :accepts, ["html"]
      plug :fetch_session
      plug :protect_from_forgery
    end

    scope "/" do
      pipe_through :browser
      get "/form", Pages, :form
      post "/form", Pages, :submit
      post "/upload", Pages, :upload
      get "/name", Pages, :name
      get "/fail", Pages, :fail
      get "/file", Pages, :file
      get "/chunks", Pages, :chunks
    end
  end

  defmodule Endpoint do
    use Phoenix.Endpoint, otp_app: :sample

    socket "/socket", SampleWeb.UserSocket

    plug Plug.Static, at: "/static", from: Path.expand("..", __DIR__), only: ["mix.exs"]
    plug Plug.Parsers, parsers: [:urlencoded, :multipart], pass: ["*/*"]
    plug Plug.MethodOverride
    plug Plug.Head
    plug Plug.Session, store: :cookie, key: "_pages_key", signing_salt: "pages salt"
    plug Router
  end

  setup_all do
    Application.put_env(:sample, Endpoint,
      adapter: Ferrosock.PhoenixAdapter,
      server: true,
      http: [ip: {127, 0, 0, 1}, port: 0],
      secret_key_base: String.duplicate("sample", 12),
      render_errors: [formats: [html: SampleWeb.ErrorHTML], layout: false]
    )

    start_supervised!(Endpoint)
    [port: Sample.Client.port(Endpoint)]
  end

  test "a page with a LiveView" do
    page = Sample.Client.port() |> connect() |> request("GET", "/")
    assert page.status == 200
    assert page.body =~ ~s|<span id="count">0</span>|
  end

  test "a form, its session and its token, on one connection", %{port: port} do
    socket = connect(port)
    form = request(socket, "GET", "/form")
    cookie = {"cookie", form |> header("set-cookie") |> hd() |> String.split(";") |> hd()}

    saved = post(socket, "/form", %{"_csrf_token" => form.body, "name" => "Ada"}, [cookie])
    assert {saved.status, saved.body} == {200, "saved"}
    cookie = {"cookie", saved |> header("set-cookie") |> hd() |> String.split(";") |> hd()}
    assert request(socket, "GET", "/name", [cookie]).body == "name: Ada"

    # The connection of a request that failed ends.
    refused = post(socket, "/form", %{"name" => "Bob"}, [cookie])
    assert {refused.status, refused.body} == {403, "Forbidden"}
    assert closed?(socket)
  end

  test "an upload", %{port: port} do
    socket = connect(port)
    form = request(socket, "GET", "/form")
    cookie = {"cookie", form |> header("set-cookie") |> hd() |> String.split(";") |> hd()}
    body = "field" |> multipart(:binary.copy("x", 2_000_000)) |> IO.iodata_to_binary()

    headers = [
      {"content-type", "multipart/form-data; boundary=xx"},
      {"content-length", "#{byte_size(body)}"},
      {"x-csrf-token", form.body},
      cookie
    ]

    assert request(socket, "POST", "/upload", headers, body).body == "data.bin: 2000000 bytes"
  end

  test "files, chunks, and the heads of them", %{port: port} do
    socket = connect(port)
    source = File.read!(__ENV__.file)
    assert request(socket, "GET", "/file").body == source
    assert %{status: 200, body: "", headers: headers} = request(socket, "HEAD", "/file")
    assert {"content-length", "#{byte_size(source)}"} in headers
    assert request(socket, "GET", "/static/mix.exs").body == File.read!("mix.exs")
    assert request(socket, "GET", "/chunks").body == "onetwothree"
  end

  test "a page that is not there, and one that fails, which is logged once", %{port: port} do
    assert capture_log([level: :notice], fn ->
             missing = port |> connect() |> request("GET", "/missing", [{"accept", "text/html"}])
             assert {missing.status, missing.body} == {404, "Not Found"}
           end) == ""

    log =
      capture_log([level: :notice], fn ->
        socket = connect(port)
        failed = request(socket, "GET", "/fail", [{"accept", "text/html"}])
        assert {failed.status, failed.body} == {500, "Internal Server Error"}
        # The failure is logged by then.
        assert closed?(socket)
      end)

    assert [_before, error] = String.split(log, "[error]")
    assert error =~ "** (RuntimeError) asked to fail"
  end

  defp post(socket, path, params, headers) do
    body = URI.encode_query(params)

    headers = [
      {"content-type", "application/x-www-form-urlencoded"},
      {"content-length", "#{byte_size(body)}"}
      | headers
    ]

    request(socket, "POST", path, headers, body)
  end
end
