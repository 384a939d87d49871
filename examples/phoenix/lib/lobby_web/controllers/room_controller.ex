defmodule LobbyWeb.RoomController do
  use LobbyWeb, :controller

  def show(conn, _params) do
    render(conn, :show, page_title: "Room", script: ~p"/room.js")
  end
end
