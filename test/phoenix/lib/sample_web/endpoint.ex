defmodule SampleWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :sample

  @session [store: :cookie, key: "_sample_key", signing_salt: "sample salt", same_site: "Lax"]

  socket "/live", Phoenix.LiveView.Socket,
    websocket: [connect_info: [session: @session]],
    longpoll: [connect_info: [session: @session]]

  socket "/socket", SampleWeb.UserSocket, websocket: true, longpoll: true

  plug Plug.Parsers,
    parsers: [:urlencoded, :multipart, :json],
    pass: ["*/*"],
    json_decoder: Jason

  plug Plug.Session, @session
  plug SampleWeb.Router
end
