defmodule LobbyWeb.NameController do
  use LobbyWeb, :controller

  def update(conn, %{"name" => name}) when is_binary(name) do
    conn |> LobbyWeb.Visitor.rename(name) |> redirect(to: ~p"/")
  end
end
