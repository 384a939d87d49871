// The LiveViews' other end. It has no fallback to long polling: a page that finds the server restarting
// would stay with it.
import { Socket } from "/assets/phoenix/phoenix.mjs";
import { LiveSocket } from "/assets/phoenix_live_view/phoenix_live_view.esm.js";

const csrfToken = document.querySelector("meta[name=csrf-token]").content;
const liveSocket = new LiveSocket("/live", Socket, { params: { _csrf_token: csrfToken } });
liveSocket.connect();
