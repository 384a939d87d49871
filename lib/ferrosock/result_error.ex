defmodule Ferrosock.ResultError do
  @moduledoc """
  Raised in a WebSocket's process when a callback returns what `WebSock`, or `Sock`, does not allow.
  """

  defexception [:websock, :callback, :arity, :result, :explanation]

  @type t :: %__MODULE__{
          websock: module(),
          callback: atom(),
          arity: arity(),
          result: term(),
          explanation: String.t()
        }

  @doc false
  @spec new(module(), atom(), arity(), term(), String.t()) :: t()
  def new(websock, callback, arity, result, explanation) do
    %__MODULE__{
      websock: websock,
      callback: callback,
      arity: arity,
      result: result,
      explanation: explanation
    }
  end

  @impl true
  def message(%__MODULE__{} = error) do
    "#{Exception.format_mfa(error.websock, error.callback, error.arity)} returned " <>
      "#{inspect(error.result)}: #{error.explanation}"
  end
end
