// A picture that tells the kernel which point was chosen, by click, tap or keyboard: {x, y} from 0 to 1, y downwards.
const STEP = 0.01; // an arrow key moves the ring by this share of the picture, with Shift by five times as much
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const within = (value) => Math.min(1, Math.max(0, value));

function render({ model, el }) {
  const box = document.createElement("div"), image = document.createElement("img"), ring = document.createElement("div");
  box.append(image, ring);
  box.tabIndex = 0;
  box.setAttribute("role", "application");
  box.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the arrows to move between cells
  box.style.cssText = "position: relative; display: inline-block; cursor: crosshair; line-height: 0; max-width: 100%";
  image.style.cssText = "max-width: 100%; height: auto";
  image.draggable = false;
  ring.style.cssText = "position: absolute; width: 15px; height: 15px; margin: -8px; border: 2px solid #000; " +
    "border-radius: 50%; outline: 2px solid #fff; pointer-events: none; display: none";
  const at = { x: 0.5, y: 0.5 };
  const place = (shown) => Object.assign(ring.style, { left: `${at.x * 100}%`, top: `${at.y * 100}%`, display: shown });
  const choose = () => model.send({ ...at });
  const draw = () => {
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
  };
  const name = () => {
    image.alt = model.get("label");
    box.setAttribute("aria-label", `${model.get("label")}. The arrow keys move a ring, Enter chooses its place.`);
  };
  box.addEventListener("click", (event) => {
    const frame = image.getBoundingClientRect();
    at.x = within((event.clientX - frame.left) / frame.width);
    at.y = within((event.clientY - frame.top) / frame.height);
    place("none");
    choose();
  });
  box.addEventListener("keydown", (event) => {
    const move = MOVES[event.key], far = event.shiftKey ? 5 : 1;
    if (!move && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    if (move) Object.assign(at, { x: within(at.x + far * move[0]), y: within(at.y + far * move[1]) });
    else choose();
    place("block");
  });
  box.addEventListener("blur", () => place("none"));
  model.on("change:value", draw);
  model.on("change:label", name);
  draw();
  name();
  el.append(box);
  return () => { // a closed view draws no more
    model.off("change:value", draw);
    model.off("change:label", name);
    URL.revokeObjectURL(image.src);
  };
}
export default { render };
