defmodule LobbyWeb.RoomHTML do
  use LobbyWeb, :html

  embed_templates "room_html/*"
end
