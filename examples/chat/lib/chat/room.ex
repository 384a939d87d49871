defmodule Chat.Room do
  @moduledoc """
  Who is in the chat: a `:pg` group, so there is no process that all messages pass, a member that
  crashes leaves by itself, and the rooms of connected nodes are one room.
  """

  @group :members

  @doc false
  def child_spec(_options) do
    %{id: __MODULE__, start: {:pg, :start_link, [__MODULE__]}}
  end

  @doc """
  Makes the caller a member. From here on `{ref, :join | :leave, group, pids}` tells who comes and
  goes; `pids` are those who were here before.
  """
  @spec join() :: {reference(), [pid()]}
  def join do
    # In this order nobody is missed: who joins between the two calls is told of by `ref`.
    {ref, pids} = :pg.monitor(__MODULE__, @group)
    :ok = :pg.join(__MODULE__, @group, self())
    {ref, pids}
  end

  @spec members() :: [pid()]
  def members, do: :pg.get_members(__MODULE__, @group)

  @spec tell([pid()], term()) :: :ok
  def tell(pids, message), do: Enum.each(pids, &send(&1, message))
end
