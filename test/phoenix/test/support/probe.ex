defmodule Sample.Probe do
  @moduledoc false
  # A transport without channels. It answers `info` with the map that `connect/1` was given, as a term, and anything
  # else with an echo. The `report` of the parameters is a process that is told how it ends.

  defmacro __using__(_options) do
    quote do
      @behaviour Phoenix.Socket.Transport

      @impl true
      def child_spec(_options), do: :ignore

      @impl true
      defdelegate connect(map), to: Sample.Probe

      @impl true
      defdelegate init(state), to: Sample.Probe

      @impl true
      defdelegate handle_in(message, state), to: Sample.Probe

      @impl true
      defdelegate handle_info(message, state), to: Sample.Probe

      @impl true
      defdelegate terminate(reason, state), to: Sample.Probe
    end
  end

  def connect(%{params: %{"refuse" => "error"}}), do: :error
  def connect(%{params: %{"refuse" => reason}}), do: {:error, String.to_atom(reason)}
  def connect(map), do: {:ok, map}

  def init(state) do
    with pid when pid != nil <- report(state), do: send(pid, {:opened, self()})
    {:ok, state}
  end

  def handle_in({"info", _opcode}, state),
    do: {:push, {:binary, :erlang.term_to_binary(state)}, state}

  def handle_in({"raise", _opcode}, _state), do: raise("asked to")
  def handle_in({"restart", _opcode}, state), do: {:stop, {:shutdown, :restart}, state}
  def handle_in({data, opcode: opcode}, state), do: {:reply, :ok, {opcode, data}, state}

  def handle_info({:push, frame}, state), do: {:push, frame, state}
  def handle_info(_message, state), do: {:ok, state}

  def terminate(reason, state) do
    with pid when pid != nil <- report(state), do: send(pid, {:terminated, self(), reason})
    :ok
  end

  @doc "The parameter that has a process told how a socket ends."
  def report_to(pid), do: "report=" <> URI.encode_www_form(to_string(:erlang.pid_to_list(pid)))

  def handle_error(conn, reason), do: Plug.Conn.send_resp(conn, 429, "too many: #{reason}")

  defp report(%{params: %{"report" => pid}}), do: pid |> to_charlist() |> :erlang.list_to_pid()
  defp report(_state), do: nil
end
