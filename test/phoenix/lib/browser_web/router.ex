defmodule BrowserWeb.Router do
  use Phoenix.Router, helpers: false

  import Phoenix.LiveView.Router

  pipeline :browser do
    plug :accepts, ["html"]
    plug :fetch_session
    plug :put_root_layout, html: {BrowserWeb.Layouts, :root}
    plug :protect_from_forgery
    plug :put_secure_browser_headers
  end

  scope "/", BrowserWeb do
    pipe_through :browser

    get "/login/:name", PageController, :login
    get "/plain", PageController, :plain
    get "/protocol", PageController, :protocol
    live "/", BoardLive
    live "/other", OtherLive
  end
end

defmodule BrowserWeb.PageController do
  use Phoenix.Controller, formats: [:html, :json], layouts: []

  # A name that the session keeps.
  def login(conn, %{"name" => name}) do
    conn |> put_session(:name, name) |> redirect(to: "/")
  end

  # A page without a LiveView, whose channels are the test's.
  def plain(conn, _params) do
    conn |> put_view(html: BrowserWeb.Layouts) |> render(:plain)
  end

  # By which protocol, and by which connection, requests of a page come.
  def protocol(conn, _params) do
    json(conn, %{
      protocol: Plug.Conn.get_http_protocol(conn),
      port: Plug.Conn.get_peer_data(conn).port
    })
  end
end

defmodule BrowserWeb.Layouts do
  use Phoenix.Component

  def root(assigns) do
    ~H"""
    <!DOCTYPE html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="csrf-token" content={Plug.CSRFProtection.get_csrf_token()} />
        <link rel="icon" href="data:," />
        <title>Ferrosock in a browser</title>
        <script type="module" src="/browser.js"></script>
      </head>
      <body><%= @inner_content %></body>
    </html>
    """
  end

  def plain(assigns) do
    ~H"""
    <p id="plain">A page without a LiveView</p>
    <a id="leave" href="/protocol">Leave</a>
    """
  end
end
