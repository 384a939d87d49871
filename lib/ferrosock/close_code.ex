defmodule Ferrosock.CloseCode do
  @moduledoc false
  # Which codes a close frame may have. The options, the results of callbacks and the way a WebSocket ends
  # share this guard.

  @doc "Whether a close frame may have the code (RFC6455§7.4)."
  defguard is_close_code(code)
           when code in 1000..1003 or code in 1007..1014 or code in 1016..4999
end
