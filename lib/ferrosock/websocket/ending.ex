defmodule Ferrosock.WebSocket.Ending do
  @moduledoc false
  # How a WebSocket ends, as data: the close frame, what `terminate/2` is told, how the process exits and
  # whether a line is logged. The session carries it out.

  alias Ferrosock.{Log, Native}

  defstruct [:close, :terminate, :exit, :fault, crash?: false]

  @type t :: %__MODULE__{
          # The close frame; `nil` if there is no peer left to send it to.
          close: {1000..4999, binary()} | nil,
          # The reason for `terminate/2`; `nil` if that is not called.
          terminate: reason() | nil,
          # What the process raises at its end, so that it exits with the right reason.
          exit: Log.failure(),
          # What the peer did wrong, for the log; `nil` if nothing.
          fault: atom(),
          # Whether a callback failed.
          crash?: boolean()
        }

  @typedoc "What `c:WebSock.terminate/2` is told"
  @type reason :: :normal | :remote | :shutdown | :timeout | {:error, term()}

  @doc "The app closes the WebSocket; `close` is `nil` if it leaves the code to the server."
  @spec stop(reason :: term(), {1000..4999, binary()} | nil) :: t()
  def stop(reason, close) do
    {code, terminate} = own(reason)
    %__MODULE__{close: close || {code, ""}, terminate: terminate, exit: {:exit, reason, []}}
  end

  @doc "The engine has told the last event of the socket."
  @spec event(Native.event()) :: t()
  def event({:close, code, _reason}) do
    # The answer has the code of the peer (RFC6455§5.5.1).
    %__MODULE__{
      close: {code || 1000, ""},
      terminate: :remote,
      exit: {:exit, {:shutdown, :closed}, []}
    }
  end

  def event({:error, code, reason}) do
    %__MODULE__{
      close: {code, Log.phrase(reason)},
      terminate: {:error, reason},
      exit: {:exit, {:shutdown, reason}, []},
      fault: reason
    }
  end

  # The code is never 1000: clients take that as a wish that they do not come back.
  def event(:timeout) do
    %__MODULE__{
      close: {1001, "idle timeout"},
      terminate: :timeout,
      exit: {:exit, {:shutdown, :timeout}, []}
    }
  end

  def event(:max_lifetime) do
    %__MODULE__{
      close: {1012, "maximum lifetime"},
      terminate: :shutdown,
      exit: {:exit, {:shutdown, :max_lifetime}, []}
    }
  end

  def event({:closed, reason}) do
    %__MODULE__{terminate: {:error, reason}, exit: {:exit, {:shutdown, :closed}, []}}
  end

  @doc "The server stops, or it is drained with a code."
  @spec shutdown(reason :: term()) :: t()
  def shutdown({:shutdown, {:drain, code}}),
    do: %__MODULE__{close: {code, ""}, terminate: :shutdown, exit: {:exit, :shutdown, []}}

  def shutdown(_reason), do: shutdown({:shutdown, {:drain, 1001}})

  @doc """
  The client does not read what it is sent. When the close frame cannot be sent in time either, the engine
  resets the connection.
  """
  @spec slow_client() :: t()
  def slow_client do
    %__MODULE__{
      close: {1013, "slow client"},
      terminate: {:error, :slow_client},
      exit: {:exit, {:shutdown, :slow_client}, []},
      fault: :slow_client
    }
  end

  @doc "A callback failed."
  @spec crash(Exception.kind(), term(), Exception.stacktrace()) :: t()
  def crash(kind, reason, stacktrace) do
    %__MODULE__{
      close: {1011, ""},
      terminate: {:error, Log.crash_reason(kind, reason, stacktrace)},
      exit: {kind, reason, stacktrace},
      crash?: true
    }
  end

  defp own(:normal), do: {1000, :normal}
  defp own({:shutdown, :disconnected}), do: {1000, :normal}
  defp own({:shutdown, :restart}), do: {1012, :normal}
  defp own(reason), do: {1011, {:error, reason}}
end
