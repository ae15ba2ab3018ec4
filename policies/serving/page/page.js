// The operator's page: shows what the server tells, and says what the operator wants.

import { Curves } from "/page/charts.js";
import { Hands, keyName } from "/page/hands.js";

const ALIVE_EVERY_MS = 100;
const STEER_EVERY_MS = 50;
const AGAIN_AFTER_MS = 1000;
const AGAIN_AT_MOST_MS = 10000;
const CONFIRMED_WITHIN_MS = 300;
const GRIPPER_GOES_ON = ["instruct", "episode"];
const NAMES = { policy: "The policy acts", human: "A person steers", held: "Held", none: "No robot connected" };
const byId = (id) => document.getElementById(id);
const decoder = new TextDecoder();

let token = takeToken();
let accepted = ""; // the token that the server took last
let socket = null;
let tries = 0; // since it was connected
let again = 0; // the timer of the next one
let page = "";
let embodiment = null;
let state = { robots: {}, looks_at: "" };
let hands = null;
let curves = null;
let lastStep = "";
let edited = false; // the instruction is being written
const owed = new Map(); // by robot, the Stops that no state has confirmed: {address, known, since_ms}

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") ?? "";
}

function connect() {
  if (!token) return askForToken("");
  const word = btoa(token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/page/socket`;
  clearTimeout(again);
  hangUp();
  socket = new WebSocket(address, ["vla-page", `token.${word}`]);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    for (const name of owed.keys()) say({ type: "stop", robot: name });
    sayAlive();
    accepted = token;
    tries = 0;
    link("on", "connected");
    byId("entry").hidden = true;
    byId("desk").hidden = false;
  };
  socket.onmessage = (event) => (typeof event.data === "string" ? hear(JSON.parse(event.data)) : picture(event.data));
  socket.onclose = (event) => {
    link("off", event.reason || "not connected");
    if (token === accepted) again = setTimeout(connect, Math.min(AGAIN_AFTER_MS * 2 ** tries++, AGAIN_AT_MOST_MS));
    else askForToken("The server refused this token, or is not there.");
  };
}

function hangUp() {
  if (!socket) return;
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
}

function askForToken(note) {
  byId("desk").hidden = true;
  byId("entry").hidden = false;
  byId("entry-note").textContent = note;
}

function link(now, text) {
  byId("link").dataset.state = now;
  byId("link-text").textContent = text;
}

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ robot: state.looks_at, ...message }));
}

// Whoever does not see the page does not attend to the robot
function sayAlive(visible = !document.hidden) {
  say({ type: "alive", visible });
}

function hear(message) {
  if (message.type === "hello") return greet(message);
  state = message;
  settle();
  show();
}

function greet(message) {
  page = message.page;
  embodiment = message.embodiment;
  hands = new Hands(embodiment.action);
  setSpeed();
  byId("curves").replaceChildren();
  curves = new Curves(byId("curves"), embodiment.action, message.horizon);
  byId("cameras").replaceChildren(...embodiment.cameras.map(view));
  byId("keys").replaceChildren(...hands.legend().map(keyRow));
}

function view(camera) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  canvas.id = `camera-${camera.name}`;
  canvas.width = camera.width_px;
  canvas.height = camera.height_px;
  const caption = document.createElement("figcaption");
  caption.textContent = camera.name;
  figure.append(canvas, caption);
  return figure;
}

function keyRow({ name, keys }) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  term.textContent = name;
  const value = document.createElement("dd");
  value.append(...keys.map((code) => {
    const key = document.createElement("kbd");
    key.textContent = keyName(code);
    key.dataset.code = code;
    return key;
  }));
  row.append(term, value);
  return row;
}

function picture(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(decoder.decode(new Uint8Array(buffer, 4, size)));
  const rgb = new Uint8Array(buffer, 4 + size);
  const canvas = byId(`camera-${head.camera}`);
  if (!canvas) return;
  if (canvas.width !== head.width || canvas.height !== head.height) {
    canvas.width = head.width;
    canvas.height = head.height;
  }
  const image = new ImageData(head.width, head.height);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    image.data[j] = rgb[i];
    image.data[j + 1] = rgb[i + 1];
    image.data[j + 2] = rgb[i + 2];
    image.data[j + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function show() {
  const robot = state.robots[state.looks_at];
  const mode = robot?.mode ?? "none";
  document.body.dataset.mode = mode;
  showTabs();
  showHolds();
  showTable();
  byId("mode-name").textContent = mode === "human" && robot.pilot === page ? "You steer" : NAMES[mode];
  byId("mode-why").textContent = robot ? why(robot) : "Robots appear here when they ask for actions.";
  byId("stop").disabled = !robot;
  byId("release").disabled = !robot || mode === "policy" || (robot.pilot && robot.pilot !== page);
  byId("take").disabled = !robot?.line || Boolean(robot.pilot);
  byId("start").disabled = !robot?.line || robot.report.under_way !== false;
  for (const id of ["success", "failure", "discard"]) byId(id).disabled = !robot?.line || !robot.report.under_way;
  byId("record").textContent = robot?.line ? recordText(robot.report) : "";
  byId("hands").hidden = !robot?.line;
  byId("pad").textContent = hands?.pad() ? `Gamepad: ${hands.pad().id}` : "A gamepad is used when a button of it is pressed.";
  const field = byId("instruction");
  if (!edited) field.value = robot?.instruction ?? "";
  if (robot) showNumbers(robot);
}

function why(robot) {
  if (robot.mode === "held" && robot.came_held) return "It came held, as one from its address had left: it goes on when it is released.";
  if (!robot.line) return "It has no line to this page: it can be stopped and told, not steered.";
  const report = robot.report;
  if (report.why) return report.why;
  return robot.mode === "human" ? "Give it back with G; Esc holds it." : "";
}

function recordText(report) {
  if (report.step === undefined) return "";
  const now = report.under_way ? `Episode ${report.episode}, step ${report.step}` : "Between episodes";
  return `${now} · ${report.recorded === null ? "not recorded" : `${report.recorded} recorded before`}`;
}

function showTabs() {
  const names = Object.keys(state.robots);
  const nav = byId("robots");
  if (nav.dataset.names !== names.join()) {
    nav.dataset.names = names.join();
    nav.replaceChildren(...names.map((name) => {
      const tab = document.createElement("button");
      tab.textContent = `${embodiment?.name ?? "robot"} ${name.slice(0, 4)}`;
      tab.dataset.robot = name;
      tab.onclick = () => say({ type: "look", robot: name });
      return tab;
    }));
  }
  for (const tab of nav.children) tab.setAttribute("aria-pressed", String(tab.dataset.robot === state.looks_at));
}

function showHolds() {
  const list = byId("holds");
  if (list.dataset.addresses === state.holds.join()) return;
  list.dataset.addresses = state.holds.join();
  list.replaceChildren(...state.holds.map((address) => {
    const row = document.createElement("li");
    const free = document.createElement("button");
    free.textContent = "Release";
    free.onclick = () => say({ type: "free", address });
    row.append(`A robot from ${address} left while it was held, and comes back held.`, free);
    return row;
  }));
}

function showTable() {
  byId("connected").replaceChildren(...Object.values(state.robots).map((robot) => {
    const row = document.createElement("tr");
    const since = new Date(1000 * robot.since_s).toLocaleTimeString("en-GB");
    for (const text of [robot.name.slice(0, 8), robot.address, since, robot.mode, robot.requests]) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
  byId("pages").textContent = `${state.pages ?? 0} page${state.pages === 1 ? "" : "s"} open`;
}

function showNumbers(robot) {
  const report = robot.report;
  const violations = robot.violations + (report.violations ?? 0);
  const ms = (value) => (value === null || value === undefined ? "–" : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`);
  const facts = [["latency p50", ms(robot.latency_ms.p50)], ["latency p95", ms(robot.latency_ms.p95)],
    ["violations", violations, violations > 0], ["refused", robot.refused, robot.refused > 0], ["requests", robot.requests]];
  byId("facts").replaceChildren(...facts.map(([name, value, alarm]) => {
    const box = document.createElement("div");
    const term = document.createElement("dt");
    term.textContent = name;
    const number = document.createElement("dd");
    number.textContent = value;
    number.classList.toggle("alarm", Boolean(alarm));
    box.append(term, number);
    return box;
  }));
  const step = `${robot.name} ${report.episode} ${report.step}`;
  if (report.action?.length && step !== lastStep) {
    curves.add(report.action, report.actor);
    hands.feel(report.action);
  }
  lastStep = step;
  curves.draw(robot.mode === "policy" ? robot.chunk : []);
}

function mine() {
  const robot = state.robots[state.looks_at];
  return robot?.mode === "human" && robot.pilot === page;
}

function act(type, more = {}) {
  if (GRIPPER_GOES_ON.includes(type)) hands?.keysUp();
  else hands?.letGo();
  say({ type, ...more });
  document.activeElement?.blur();
}

// What the slider shows is what the hands do
function setSpeed() {
  if (hands) hands.speed = byId("speed").value / 100;
  byId("speed-text").textContent = `${byId("speed").value} %`;
}

// Stop is said until the robot is seen to be held: the network may be gone, or the robot come back by another name
function stop() {
  const robot = state.robots[state.looks_at];
  const facts = { address: robot?.address, known: Object.keys(state.robots), since_ms: performance.now() };
  if (robot && !owed.has(robot.name)) owed.set(robot.name, facts);
  act("stop");
  if (socket?.readyState === WebSocket.CLOSED && token === accepted) connect();
}

function release() {
  owed.delete(state.looks_at);
  act("release");
}

function settle() {
  const robots = Object.values(state.robots);
  for (const [name, { address, known }] of owed) {
    const heir = robots.find((robot) => robot.address === address && !known.includes(robot.name));
    const robot = state.robots[name] ?? heir;
    if (robot?.mode === "held") owed.delete(name);
    else if (robot) say({ type: "stop", robot: robot.name });
  }
}

function showOwed() {
  const late = [...owed].filter(([, { since_ms }]) => performance.now() - since_ms > CONFIRMED_WITHIN_MS);
  const names = late.map(([name]) => name.slice(0, 4)).join(", ");
  byId("owed").hidden = !late.length;
  byId("owed").textContent = socket?.readyState === WebSocket.OPEN
    ? `Stop is not confirmed: robot ${names} does not answer, or has gone. It is told when it is back.`
    : `Stop is not delivered yet: robot ${names} is told as soon as the server is there.`;
}

function typing() {
  return document.activeElement?.tagName === "INPUT" && document.activeElement.type !== "range";
}

byId("entry").onsubmit = (event) => {
  event.preventDefault();
  token = byId("token").value.trim() || token;
  sessionStorage.setItem("token", token);
  connect();
};
byId("instruction-form").onsubmit = (event) => {
  event.preventDefault();
  edited = false;
  act("instruct", { text: byId("instruction").value });
};
byId("instruction").oninput = () => (edited = true);
byId("instruction-own").onclick = () => {
  edited = false;
  act("instruct", { text: "" });
};
byId("stop").onclick = stop;
byId("release").onclick = release;
byId("take").onclick = () => act("take");
for (const order of ["start", "success", "failure", "discard"]) byId(order).onclick = () => act("episode", { order });
byId("speed").oninput = setSpeed;

addEventListener("keydown", (event) => {
  if (event.code === "Escape") return stop();
  if (typing() || event.ctrlKey || event.altKey || event.metaKey || !hands) return;
  if (event.code === "KeyT" && !event.repeat && !byId("take").disabled) return act("take");
  if (event.code === "KeyG" && !event.repeat && !byId("release").disabled) return release();
  if (mine() && hands.press(event.code, event.repeat)) event.preventDefault();
});
addEventListener("keyup", (event) => hands?.release(event.code));
addEventListener("blur", () => hands?.letGo());
addEventListener("hashchange", () => {
  const before = token;
  token = takeToken();
  if (token !== before) connect();
});

addEventListener("pagehide", () => sayAlive(false));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hands?.letGo();
  sayAlive();
});

setInterval(() => sayAlive(), ALIVE_EVERY_MS);
setInterval(showOwed, ALIVE_EVERY_MS);
setInterval(() => {
  if (!hands) return;
  for (const key of document.querySelectorAll("#keys kbd")) key.classList.toggle("down", hands.down.has(key.dataset.code));
  if (mine() && !document.hidden) say({ type: "steer", axes: hands.axes() });
}, STEER_EVERY_MS);

connect();
