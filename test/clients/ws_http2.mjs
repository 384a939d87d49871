import { once } from "node:events";
import http2 from "node:http2";
import WebSocket, { PerMessageDeflate, extension } from "ws";

const { extensionName } = PerMessageDeflate;
const MAX_PAYLOAD = 100 * 1024 * 1024;
const CLOSE_TIMEOUT_MS = 30_000;

// Returns what opens WebSockets of ws on streams of one connection of Node's http2 (RFC 8441), for ws
// itself knows the handshake of HTTP/1.1 alone.
export function overHttp2(url) {
  const { host, pathname, search } = new URL(url);
  const session = http2.connect(`http://${host}`);
  const settings = once(session, "remoteSettings");
  // Each stream tells of it, too.
  session.on("error", () => {});
  const head = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    ":authority": host,
    ":path": pathname + search,
    "sec-websocket-version": "13",
  };

  async function open(ws, deflate) {
    const [{ enableConnectProtocol }] = await settings;
    if (!enableConnectProtocol) throw new Error("SETTINGS_ENABLE_CONNECT_PROTOCOL is not 1");

    const offer = deflate && {
      "sec-websocket-extensions": extension.format({ [extensionName]: deflate.offer() }),
    };
    const stream = session.request({ ...head, ...offer }, { endStream: false });
    const [headers] = await once(stream, "response");
    if (headers[":status"] !== 200) throw new Error(`the status is ${headers[":status"]}`);

    const agreed = headers["sec-websocket-extensions"];
    if (agreed) {
      deflate.accept(extension.parse(agreed)[extensionName]);
      ws._extensions[extensionName] = deflate;
    }
    ws.setSocket(stream, Buffer.alloc(0), { maxPayload: MAX_PAYLOAD });
  }

  return ({ perMessageDeflate = true } = {}) => {
    const ws = new WebSocket(null, undefined, { closeTimeout: CLOSE_TIMEOUT_MS });
    // Without an address ws takes itself for a server.
    ws._isServer = false;
    const deflate = perMessageDeflate && new PerMessageDeflate({ maxPayload: MAX_PAYLOAD });
    open(ws, deflate).catch((error) => ws.emit("error", error));
    return ws;
  };
}
