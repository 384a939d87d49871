defmodule Ferrosock.Options.Engine do
  @moduledoc false
  # What goes down to the engine: for each struct of its configuration the options of the tables that are
  # for it, and what is made of others. What they mean is not its concern.

  alias Ferrosock.Options.Table

  @type config :: :listener | :http2 | :socket | :deflate

  @typedoc "As in a table"
  @type field ::
          {name :: atom(), {type :: term(), default :: term(), doc :: String.t(), rust :: atom()}}

  # Of each: the tables, and what is no option. Both are for the engine in this order.
  @configs [
    listener:
      {[:server, :http_1],
       address: {:address, nil, "what `:ip`, `:inet6` and `:port` come to", :Address},
       user_timeout:
         {:ms, nil,
          "that the kernel may have bytes which a client does not take before it ends the connection " <>
            "(TCP_USER_TIMEOUT). The engine sees no stall where the kernel has taken all that there was",
          :Duration},
       http2: {{:config, :http2}, nil, "`None` where it is not spoken", :Http2Config}},
    http2: {[:http_2], []},
    socket:
      {[:websocket],
       control_events:
         {:boolean, nil,
          "whether its owner hears of pings and pongs; pings are answered either way", :bool},
       deflate:
         {{:config, :deflate}, nil, "`None` where it is not to be negotiated", :DeflateConfig}},
    deflate: {[:deflate], []}
  ]

  options =
    for {table, options} <- Table.all(),
        {name, {type, default, doc, rust}} <- options,
        {config, rust} = if(is_tuple(rust), do: rust, else: {table, rust}),
        do: {config, {name, {type, default, doc, rust}}}

  fields =
    for {config, {tables, made}} <- @configs, into: %{} do
      own = for table <- Enum.uniq([config | tables]), {^table, field} <- options, do: field
      {config, own ++ made}
    end

  @fields fields
  @names Map.new(fields, fn {config, fields} -> {config, Keyword.keys(fields)} end)

  @doc "All structs of the engine's configuration, and what each has."
  @spec configs() :: [{config(), [field()]}]
  def configs, do: for({config, _tables} <- @configs, do: {config, @fields[config]})

  @doc "Of all that a map has, what is for one of them."
  @spec take(map(), config()) :: map()
  def take(options, config), do: Map.take(options, Map.fetch!(@names, config))

  @doc "The type of such a map, for `Ferrosock.Native`."
  @spec typespec(config()) :: Macro.t()
  def typespec(config),
    do: {:%{}, [], for({name, {type, _, _, _}} <- @fields[config], do: {name, typed(type)})}

  defp typed(:address), do: quote(do: Ferrosock.Address.t())
  defp typed(:boolean), do: quote(do: boolean())
  defp typed(:limit), do: quote(do: pos_integer() | :infinity)
  defp typed(:timeout), do: quote(do: timeout())
  defp typed(:non_neg_integer), do: quote(do: non_neg_integer())
  defp typed(type) when type in [:ms, :pos_integer], do: quote(do: pos_integer())
  defp typed({:config, :http2}), do: quote(do: http2_options() | nil)
  defp typed({:config, :deflate}), do: quote(do: deflate_options() | nil)
  defp typed({:one_of, values}), do: Enum.reduce(values, &{:|, [], [&1, &2]})
  defp typed({:range, first..last//_}), do: quote(do: unquote(first)..unquote(last))
end
