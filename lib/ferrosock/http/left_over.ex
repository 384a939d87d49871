defmodule Ferrosock.HTTP.LeftOver do
  @moduledoc false
  # What one request of an HTTP/1 connection leaves in the process that serves the next one, too: messages,
  # dictionary and uploaded files. It is removed, because nothing of one request may meet another. Links and
  # monitors stay: a request that fails ends its process.

  alias Ferrosock.Native

  # What the process dictionary holds for the VM and for Logger's crash reports.
  @kept_keys [:"$ancestors", :"$initial_call", :"$process_label"]

  @uploads Plug.Upload.Path

  # An event of the connection, and the messages that a special process must handle itself.
  defguardp is_connections(message, tag, parent)
            when is_tuple(message) and
                   ((tuple_size(message) == 2 and elem(message, 0) == tag) or
                      (tuple_size(message) == 3 and elem(message, 0) == :EXIT and
                         elem(message, 1) == parent) or
                      (tuple_size(message) == 3 and elem(message, 0) == :system))

  @doc "Removes all of it, except the messages that are the connection's own."
  @spec remove(Native.tag(), parent :: pid(), clear_dictionary? :: boolean()) :: :ok
  def remove(tag, parent, clear_dictionary?) do
    remove_messages(tag, parent)
    if clear_dictionary?, do: clear_dictionary()
    remove_uploads()
  end

  @doc """
  Removes the notice that the client has left, which is for the Plug and not for the WebSocket that the request
  has become. None comes after the upgrade.
  """
  @spec remove_disconnects() :: :ok
  def remove_disconnects do
    receive do
      {:ferrosock, :disconnected, _ref} -> remove_disconnects()
    after
      0 -> :ok
    end
  end

  defp remove_messages(tag, parent) do
    receive do
      message when not is_connections(message, tag, parent) -> remove_messages(tag, parent)
    after
      0 -> :ok
    end
  end

  defp clear_dictionary do
    kept = for key <- @kept_keys, value = Process.get(key), do: {key, value}
    :erlang.erase()
    Enum.each(kept, fn {key, value} -> Process.put(key, value) end)
  end

  # Plug removes uploaded files when the process of their request ends, and has no function for a process
  # that goes on. Files that were given away do not belong to this process any more.
  defp remove_uploads do
    if :ets.whereis(@uploads) != :undefined do
      for {_owner, path} <- :ets.take(@uploads, self()), do: :file.delete(path, [:raw])
    end

    :ok
  end
end
