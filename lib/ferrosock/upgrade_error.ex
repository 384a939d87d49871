defmodule Ferrosock.UpgradeError do
  @moduledoc """
  Raised by `Ferrosock.upgrade/4` when the request is not a valid WebSocket handshake
  (RFC6455§4.2.1). Left alone, it is answered with its `plug_status`: 426 for a version of the
  protocol other than 13, else 400.
  """

  defexception [:message, plug_status: 400]

  @type t :: %__MODULE__{message: String.t(), plug_status: 400 | 426}
end
