defmodule Chat.Router do
  @moduledoc """
    * `/` - the chat, for people
    * `/chat` - its WebSocket, see `Chat.Member`
    * `/echo` - a WebSocket that sends every message back, see `Chat.Echo`
    * `/health` - `200 ok`
  """

  use Plug.Router

  # The page loads nothing from elsewhere and has no inline code, so a message can bring none.
  @content_security_policy "default-src 'none'; script-src 'self'; style-src 'self'; " <>
                             "img-src 'self'; connect-src 'self'; base-uri 'none'; " <>
                             "form-action 'none'; frame-ancestors 'none'"

  plug :secure_headers
  plug Plug.Static, at: "/", from: {:chat, "priv/static"}, only: ~w(chat.css chat.js icon.svg)
  plug :match
  plug :dispatch

  get "/" do
    conn
    |> put_resp_content_type("text/html")
    |> put_resp_header("cache-control", "no-cache")
    |> send_file(200, Application.app_dir(:chat, "priv/static/index.html"))
  end

  get "/chat" do
    WebSock.upgrade(conn, Chat.Member, [], max_frame_size: 16_384)
  end

  get "/echo" do
    conn = fetch_query_params(conn)

    case Chat.Echo.options(conn.query_params) do
      {:ok, options} -> WebSock.upgrade(conn, Chat.Echo, [], options)
      {:error, sentence} -> text(conn, 400, sentence)
    end
  end

  get "/health" do
    text(conn, 200, "ok")
  end

  match _ do
    text(conn, 404, "There is nothing here.")
  end

  defp text(conn, status, body) do
    conn |> put_resp_content_type("text/plain") |> send_resp(status, body)
  end

  defp secure_headers(conn, _options) do
    conn
    |> put_resp_header("content-security-policy", @content_security_policy)
    |> put_resp_header("x-content-type-options", "nosniff")
    |> put_resp_header("referrer-policy", "no-referrer")
  end
end
