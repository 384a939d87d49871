defmodule LobbyWeb.Visitor do
  @moduledoc """
  Who visits: an id and a name, kept in the session. As a plug it makes them up at the first visit; by
  `on_mount` a LiveView has them, and by `from_session/1` a channel.
  """

  @behaviour Plug

  import Plug.Conn

  @max_name 24

  @impl true
  def init(options), do: options

  @impl true
  def call(conn, _options) do
    case from_session(get_session(conn)) do
      {:ok, visitor} -> assign(conn, :visitor, visitor)
      :error -> put_visitor(conn, new())
    end
  end

  def on_mount(:default, _params, session, socket) do
    {:ok, visitor} = from_session(session)

    # A page is rendered twice: for the response, and when its socket is there, which is when it stays.
    if Phoenix.LiveView.connected?(socket), do: LobbyWeb.Presence.join(visitor)

    {:cont, Phoenix.Component.assign(socket, :visitor, visitor)}
  end

  @doc "The visitor of a session that has passed the plug."
  def from_session(%{"visitor" => %{id: _, name: _} = visitor}), do: {:ok, visitor}
  def from_session(_other), do: :error

  @doc "Changes the name, where the new one is a name."
  def rename(conn, name) do
    case tidy(name) do
      "" -> conn
      name -> put_visitor(conn, %{conn.assigns.visitor | name: name})
    end
  end

  def max_name, do: @max_name

  # Code points, because a grapheme may be made of any number of them, and a cookie has its limit.
  defp tidy(name) do
    name = name |> String.replace(~r/[\s\p{Cc}]+/u, " ") |> String.trim()
    name |> String.codepoints() |> Enum.take(@max_name) |> Enum.join()
  end

  defp put_visitor(conn, visitor) do
    conn |> put_session(:visitor, visitor) |> assign(:visitor, visitor)
  end

  defp new do
    id = Base.url_encode64(:crypto.strong_rand_bytes(9))
    %{id: id, name: "Guest #{Enum.random(1000..9999)}"}
  end
end
