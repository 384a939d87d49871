defmodule Chat.Echo do
  @moduledoc """
  Sends every message back. The request's query chooses the options of the upgrade:

      /echo?timeout=infinity&max_frame_size=65536&compress=true&threshold=0
  """

  @behaviour WebSock

  @doc "The options that a query asks for, or a sentence about the value that makes no sense."
  @spec options(%{optional(binary()) => term()}) :: {:ok, keyword()} | {:error, String.t()}
  def options(params) do
    with {:ok, timeout} <- limit(params, "timeout"),
         {:ok, max_frame_size} <- limit(params, "max_frame_size"),
         {:ok, compress} <- flag(params, "compress"),
         {:ok, threshold} <- size(params, "threshold") do
      deflate_options = if threshold, do: [threshold: threshold]

      options = [
        timeout: timeout,
        max_frame_size: max_frame_size,
        compress: compress,
        deflate_options: deflate_options
      ]

      {:ok, Enum.reject(options, fn {_name, value} -> is_nil(value) end)}
    end
  end

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_in({data, opcode: opcode}, state), do: {:push, {opcode, data}, state}

  @impl true
  def handle_info(_message, state), do: {:ok, state}

  defp limit(params, name) do
    case params do
      %{^name => "infinity"} -> {:ok, :infinity}
      params -> integer(params, name, 1, "a whole number above 0, or infinity")
    end
  end

  defp size(params, name), do: integer(params, name, 0, "a whole number, 0 or above")

  defp flag(params, name) do
    case params do
      %{^name => "true"} -> {:ok, true}
      %{^name => "false"} -> {:ok, false}
      %{^name => _other} -> {:error, "#{name} must be true or false."}
      %{} -> {:ok, nil}
    end
  end

  defp integer(params, name, min, expected) do
    with %{^name => value} <- params,
         {:ok, number} when number >= min <- parse(value) do
      {:ok, number}
    else
      %{} -> {:ok, nil}
      _invalid -> {:error, "#{name} must be #{expected}."}
    end
  end

  # `?timeout[]=1` arrives as a list; 12 digits are more than any limit means.
  defp parse(value) when is_binary(value) and byte_size(value) <= 12 do
    case Integer.parse(value) do
      {number, ""} -> {:ok, number}
      _other -> :error
    end
  end

  defp parse(_value), do: :error
end
