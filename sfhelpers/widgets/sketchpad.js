// The paper of a SketchPad. The drawing and its history live in Python: this file reports what was done, one message
// a stroke, and draws what comes back. Until then a stroke waits in `waiting`, so it is never off the paper.
const INK = "#191919", CURSOR = "#0072b2";
const STEP = 0.01; // an arrow key moves the cursor by this share of the paper, with Shift by five times as much
const NEAR = 0.8; // pixels; a point closer to the last one adds nothing
const LARGEST_FILE = 5e6;
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const within = (value) => Math.min(1, Math.max(0, value));
const unique = () => `${Date.now()}-${Math.random()}`;

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function download(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text])), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

function drawStroke(context, stroke, scale) {
  const points = stroke.points.map(([x, y]) => [x * scale, y * scale]);
  const width = stroke.width * scale;
  context.fillStyle = context.strokeStyle = INK;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  if (points.length === 1) {
    context.arc(...points[0], width / 2, 0, 2 * Math.PI);
    context.fill();
  } else {
    points.forEach((point) => context.lineTo(...point));
    context.stroke();
  }
}

function controls(model, send, say) {
  const { sizes, widths, presets } = model.get("choices");
  const button = (text, title, action) => {
    const element = make("button", { type: "button", title, textContent: text });
    element.addEventListener("click", () => element.ariaDisabled !== "true" && action());
    return element;
  };
  const menu = (choices, unit) =>
    make("select", {}, ...choices.map((value) => make("option", { value, textContent: `${value}${unit}` })));
  const undo = button("Undo", "Undo (Ctrl+Z)", () => send({ do: "undo" }));
  const redo = button("Redo", "Redo (Ctrl+Shift+Z)", () => send({ do: "redo" }));
  const clear = button("Clear", "Empty the paper (can be undone)", () => send({ do: "clear" }));
  const width = make("input", { type: "range", min: widths[0], max: widths[1], step: 0.5, ariaLabel: "Line width" });
  const shown = make("output"), dot = make("span"), tip = make("span", { className: "sketchpad-tip", ariaHidden: "true" }, dot);
  const size = menu(sizes, " px"), preset = menu(presets, "");
  const use = button("Use", "Put the chosen preset on the paper", () => send({ do: "preset", name: preset.value }));
  const file = make("input", { type: "file", accept: ".svg,.ndjson", hidden: true });
  const open = button("Open…", "Open an .svg or a Quick, Draw! .ndjson file", () => file.click());
  const save = (kind) => button(`Save .${kind}`, `Save the drawing as .${kind}`, () => send({ do: "save", as: kind }));
  const showWidth = (value) => {
    shown.textContent = `${value} px`;
    dot.style.width = dot.style.height = `${value}px`;
  };
  width.addEventListener("input", () => showWidth(width.value));
  width.addEventListener("change", () => { // set here, for strokes that are drawn before Python answers
    model.set("line_width", Number(width.value));
    model.save_changes();
  });
  size.addEventListener("change", () => send({ do: "size", value: Number(size.value) }));
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    file.value = ""; // or the same file could not be chosen twice
    if (!chosen) return;
    const first = /\.ndjson$/i.test(chosen.name); // of all its drawings, the one that is opened
    if (chosen.size > LARGEST_FILE && !first) say(`${chosen.name} has more than 5 MB: cut it down to one drawing.`, true);
    else send({ do: "open", name: chosen.name }, [await chosen.slice(0, LARGEST_FILE).arrayBuffer()]);
  });
  const update = () => {
    undo.ariaDisabled = String(!model.get("undoable")); // still focusable, so that the focus does not jump away
    redo.ariaDisabled = String(!model.get("redoable"));
    clear.ariaDisabled = String(!model.get("strokes").length);
    size.value = model.get("size");
    width.value = model.get("line_width");
    showWidth(model.get("line_width"));
  };
  const bar = (label, ...children) => make("div", { className: "sketchpad-bar", role: "group", ariaLabel: label }, ...children);
  const top = bar("Pen", undo, redo, clear, make("label", {}, "Width", width, tip, shown));
  const bottom = bar("Paper and files", make("label", {}, "Paper", size), make("label", {}, "Preset", preset), use,
    open, file, save("svg"), save("ndjson"));
  return { top, bottom, update };
}

function render(shared, { model, el }) {
  const canvas = make("canvas", { tabIndex: 0, role: "application", ariaRoleDescription: "drawing paper" });
  const words = make("div", { className: "sketchpad-words", role: "status" });
  const spoken = make("div", { className: "sketchpad-spoken", role: "status" });
  const keys = make("div", { className: "sketchpad-keys", id: `keys-${unique()}`, textContent:
    "Draw with mouse, pen or finger. On the keyboard: Tab to the paper, arrow keys move, Space lowers and lifts the pen." });
  canvas.setAttribute("aria-describedby", keys.id);
  const say = (text, wrong) => {
    words.textContent = text;
    words.classList.toggle("sketchpad-wrong", wrong);
  };
  const { top, bottom, update } = controls(model, shared.send, say);
  const root = make("div", { className: "sketchpad", "data-lm-suppress-shortcuts": "true" }, // the keys are ours
    top, canvas, words, bottom, keys, spoken);
  const cursor = { x: 0.5, y: 0.5, shown: false };
  let pen = null; // the stroke that is being drawn
  let frame = 0;

  const paint = () => {
    frame = 0;
    const sharp = Math.round(canvas.clientWidth * window.devicePixelRatio) || model.get("size");
    if (canvas.width !== sharp) canvas.width = canvas.height = sharp;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, sharp, sharp);
    model.get("strokes").forEach((stroke) => drawStroke(context, stroke, sharp / model.get("size")));
    [...shared.waiting, ...(pen ? [pen] : [])].forEach((stroke) => drawStroke(context, stroke, sharp / stroke.size));
    if (cursor.shown) drawCursor(context, sharp);
  };
  const drawCursor = (context, sharp) => {
    const dot = window.devicePixelRatio, radius = 7 * dot;
    context.beginPath();
    context.arc(cursor.x * sharp, cursor.y * sharp, radius, 0, 2 * Math.PI);
    for (const [color, width] of [["#fff", 5], [CURSOR, 2.5]]) {
      context.strokeStyle = color;
      context.lineWidth = width * dot;
      context.stroke();
    }
    context.fillStyle = CURSOR;
    if (pen) context.fill();
  };
  const soon = () => { frame ||= requestAnimationFrame(paint); };
  const show = () => {
    update();
    const count = model.get("strokes").length, size = model.get("size");
    canvas.style.width = `${size}px`;
    root.style.width = `${Math.max(size, 384)}px`; // for the buttons
    canvas.ariaLabel = `Paper of ${size} by ${size} pixels, ${count} strokes`;
    say(model.get("words") || (count ? `${count} stroke${count === 1 ? "" : "s"}` : "The paper is empty."), model.get("wrong"));
    soon();
  };

  const begin = (point, pointer) => {
    pen = { points: [point], width: model.get("line_width"), size: model.get("size"), pointer };
    soon();
  };
  const add = (point) => {
    const last = pen.points.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= NEAR) pen.points.push(point);
    soon();
  };
  const finish = () => {
    if (!pen) return;
    const { points, width, size } = pen, stroke = { points, width, size, id: unique() };
    pen = null;
    shared.waiting.push(stroke);
    shared.send({ do: "stroke", ...stroke });
    shared.redraw();
  };
  const place = (x, y) => [x, y].map((share) => Math.round(100 * share * (pen ?? { size: model.get("size") }).size) / 100);
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    return place((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    finish();
    cursor.shown = false;
    canvas.setPointerCapture(event.pointerId); // the stroke goes on beyond the edge
    begin(under(event), event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (pen?.pointer !== event.pointerId) return;
    [...(event.getCoalescedEvents?.() ?? []), event].forEach((each) => add(under(each)));
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(name, (event) => pen?.pointer === event.pointerId && finish());
  }
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key], far = event.shiftKey ? 5 : 1;
    if (event.ctrlKey || event.metaKey || event.altKey || (!move && ![" ", "Escape"].includes(event.key))) return;
    event.preventDefault();
    event.stopPropagation();
    if (pen?.pointer !== undefined) return; // a pointer is drawing
    cursor.shown = true;
    if (move) Object.assign(cursor, { x: within(cursor.x + far * move[0]), y: within(cursor.y + far * move[1]) });
    const point = place(cursor.x, cursor.y);
    if (move && pen) add(point);
    else if (event.key === " " && !pen) begin(point);
    else if (event.key === " ") finish();
    else if (event.key === "Escape") pen = null;
    spoken.textContent = `${Math.round(point[0])}, ${Math.round(point[1])}, pen ${pen ? "down" : "up"}`;
    soon();
  });
  canvas.addEventListener("focus", () => {
    cursor.shown = canvas.matches(":focus-visible");
    soon();
  });
  canvas.addEventListener("blur", () => {
    if (pen?.pointer === undefined) finish(); // drawn with the keyboard
    cursor.shown = false;
    soon();
  });
  root.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || !["z", "y"].includes(event.key.toLowerCase())) return;
    event.preventDefault();
    event.stopPropagation();
    finish();
    shared.send({ do: event.shiftKey || event.key.toLowerCase() === "y" ? "redo" : "undo" });
  });

  const names = ["strokes", "size", "line_width", "words", "wrong", "undoable", "redoable"];
  const observer = new ResizeObserver(soon);
  names.forEach((name) => model.on(`change:${name}`, show));
  shared.views.add(soon);
  observer.observe(canvas);
  window.addEventListener("resize", soon); // another zoom is another number of pixels
  el.append(root);
  show();
  return () => {
    names.forEach((name) => model.off(`change:${name}`, show));
    shared.views.delete(soon);
    observer.disconnect();
    window.removeEventListener("resize", soon);
  };
}

export default () => {
  const shared = { waiting: [], views: new Set(), asked: new Set() }; // by all views of one pad
  shared.redraw = () => shared.views.forEach((view) => view());
  return {
    initialize({ model }) {
      shared.send = (message, buffers) => {
        const id = message.id ?? unique();
        if (message.do === "save") shared.asked.add(id);
        model.send({ ...message, id }, undefined, buffers);
      };
      model.on("msg:custom", ({ done, file, text, id }) => {
        shared.waiting = shared.waiting.filter((stroke) => stroke.id !== done);
        if (shared.asked.delete(id)) download(file, text); // another page of the same pad did not ask
        shared.redraw();
      });
    },
    render: (view) => render(shared, view),
  };
};
