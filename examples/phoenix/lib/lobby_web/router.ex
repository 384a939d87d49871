defmodule LobbyWeb.Router do
  use LobbyWeb, :router

  # A page loads nothing from elsewhere and has no inline code, so what people write can bring none.
  @content_security_policy "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " <>
                             "connect-src 'self'; base-uri 'none'; form-action 'self'; " <>
                             "frame-ancestors 'none'"

  pipeline :browser do
    plug :accepts, ["html"]
    plug :fetch_session
    plug :put_root_layout, html: {LobbyWeb.Layouts, :root}
    # Pages say themselves what is around them: <Layouts.app>.
    plug :put_layout, false
    plug :protect_from_forgery
    plug :put_secure_browser_headers, %{"content-security-policy" => @content_security_policy}
    plug LobbyWeb.Visitor
  end

  scope "/", LobbyWeb do
    pipe_through :browser

    live_session :default, on_mount: LobbyWeb.Visitor do
      live "/", LobbyLive
      live "/upload", UploadLive
    end

    get "/room", RoomController, :show
    post "/name", NameController, :update
  end
end
