"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const {faces, unit, missing} = data, total = faces.face.length, numPoints = data.names.length;
const $ = selector => document.querySelector(selector);
const layers = Object.fromEntries(Object.entries(data.layers).map(([name, text]) => {
  const bytes = Uint8Array.from(atob(text), one => one.charCodeAt(0));
  return [name, new Int16Array(bytes.buffer)];
}));
const shown = new Set(["truth", "ensemble", ...data.other ? [data.other] : []]);
const signed = value => (value > 0 ? "+" : "") + value.toFixed(2) + "%";

// A point of a face: x and y in sides of the picture, null where it is missing.
function point(layer, face, index) {
  const at = 2 * (face * numPoints + index), x = layers[layer][at];
  return x === missing ? null : [x / unit, layers[layer][at + 1] / unit];
}

function distance(layer, face, index) {  // to the truth, in image pixels
  const [a, b] = [point(layer, face, index), point("truth", face, index)];
  return a && b ? Math.hypot(a[0] - b[0], a[1] - b[1]) * faces.extent[face] : null;
}

function loadPicture(face, then) {
  const image = new Image();
  image.onload = () => then(image);
  image.src = "data:image/webp;base64," + faces.picture[face];
}

function draw(canvas, face, image, dot) {
  const side = canvas.width, context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, side, side);
  for (const name of Object.keys(layers).filter(name => shown.has(name))) {
    const places = data.names.map((_, index) => point(name, face, index)?.map(value => value * side));
    context.strokeStyle = context.fillStyle = data.colors[name];
    context.lineWidth = dot / 3;
    context.beginPath();
    if (shown.has("lines")) {
      for (const [i, j] of data.edges) {
        if (places[i] && places[j]) { context.moveTo(...places[i]); context.lineTo(...places[j]); }
      }
    }
    context.stroke();
    context.beginPath();
    for (const place of places.filter(Boolean)) { context.moveTo(...place); context.arc(...place, dot, 0, 7); }
    context.fill();
  }
}

// The gallery draws only the rows that are in sight.
const gallery = $("#gallery"), space = $("#space"), controls = $("#controls"), cards = new Map();
const ratio = Math.min(window.devicePixelRatio || 1, 2), caption = 38;
let order = [], columns = 1, width = 0;

function showRows() {
  const height = width + caption, first = Math.floor(gallery.scrollTop / height) - 1;
  const start = Math.max(0, first * columns);
  const end = Math.min(order.length, start + (Math.ceil(gallery.clientHeight / height) + 3) * columns);
  const wanted = new Set(order.slice(start, end));
  for (const [face, card] of cards) if (!wanted.has(face)) { card.remove(); cards.delete(face); }
  for (let place = start; place < end; place++) {
    const face = order[place], card = cards.get(face) || makeCard(face);
    card.style.transform = `translate(${place % columns * width}px, ${Math.floor(place / columns) * height}px)`;
    card.style.width = width + "px";
  }
}

function makeCard(face) {
  const card = document.createElement("button"), canvas = document.createElement("canvas");
  const number = document.createElement("span"), name = document.createElement("span");
  card.type = "button";
  card.className = "face" + (faces.suspect[face] === null ? "" : " suspect");
  card.title = name.textContent = faces.image[face];
  number.textContent = (faces.error[face] === null ? "" : faces.error[face].toFixed(2) + "% · ") +
    (data.other && faces.change[face] !== null ? signed(faces.change[face]) + " · " : "") +
    (faces.fold[face] === "test" ? "test" : "fold " + faces.fold[face]);
  canvas.width = canvas.height = Math.round(width * ratio);
  card.append(canvas, number, name);
  card.onclick = () => openFace(face);
  loadPicture(face, image => {
    card.draw = () => draw(canvas, face, image, Math.max(canvas.width / 100, 1));
    card.draw();
  });
  cards.set(face, card);
  space.append(card);
  return card;
}

function layout() {
  columns = Math.max(2, Math.floor(gallery.clientWidth / 150));
  width = gallery.clientWidth / columns;
  space.style.height = Math.ceil(order.length / columns) * (width + caption) + "px";
  for (const card of cards.values()) card.remove();
  cards.clear();
  showRows();
}

const least = text => text === "" ? -Infinity : Number(text);

function choose() {
  const {sort, fold, source, error, spread, file, suspect} = controls.elements;
  const key = sort.value.replace("-", ""), values = faces[key], sign = sort.value.startsWith("-") ? 1 : -1;
  order = [...faces.face.keys()].filter(face =>
    (!fold.value || faces.fold[face] === fold.value) && (!source.value || faces.source[face] === source.value) &&
    (faces.error[face] ?? -Infinity) >= least(error.value) &&
    (faces.spread[face] ?? -Infinity) >= least(spread.value) &&
    (!suspect.checked || faces.suspect[face] !== null) &&
    faces.image[face].toLowerCase().includes(file.value.toLowerCase()));
  order.sort((a, b) => values[a] === null || values[b] === null ? (values[a] === null) - (values[b] === null)
    : key === "image" ? values[a].localeCompare(values[b]) : sign * (values[a] - values[b]));
  $("#count").textContent = `${order.length} of ${total}`;
  gallery.scrollTop = 0;
  layout();
}

for (const name of ["fold", "source"]) {
  for (const value of [...new Set(faces[name])].sort()) controls.elements[name].add(new Option(value, value));
}
for (const name of [...Object.keys(layers), ...data.edges.length ? ["lines"] : []]) {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox";
  box.value = name;
  box.checked = shown.has(name);
  box.onchange = () => {
    shown[box.checked ? "add" : "delete"](name);
    for (const card of cards.values()) card.draw?.();
    if (dialog.open) openFace(opened);
  };
  label.append(box, " ");
  if (data.colors[name]) {
    label.append(document.createElement("i"), " ");
    label.style.setProperty("--color", data.colors[name]);
  }
  label.append(name);
  $("#layers").append(label);
}
controls.oninput = choose;
controls.onsubmit = event => event.preventDefault();
let frame = 0;
gallery.onscroll = () => { frame ||= requestAnimationFrame(() => { frame = 0; showRows(); }); };
new ResizeObserver(() => { if (Math.abs(gallery.clientWidth - columns * width) > 1) layout(); }).observe(gallery);

// One face, large.
const dialog = $("#open"), large = dialog.querySelector("canvas"), hint = dialog.querySelector(".hint");
let opened = 0;

function openFace(face) {
  opened = face;
  if (!dialog.open) {
    dialog.showModal();
    dialog.querySelector("h3").after($("#layers"));
  }
  large.width = large.height = Math.round(large.clientWidth * ratio);
  loadPicture(face, image => { if (opened === face) draw(large, face, image, large.width / 260); });
  dialog.querySelector("h3").textContent = faces.image[face];
  hint.textContent = "Point at a point for its name.";
  const mean = name => {
    const found = data.names.map((_, index) => distance(name, face, index)).filter(value => value !== null);
    return found.length ? (found.reduce((a, b) => a + b) / found.length).toFixed(2) + " px" : "–";
  };
  const shown = (value, unit) => value === null ? "–" : value.toFixed(2) + unit;
  const rows = {
    face: faces.face[face], fold: faces.fold[face], source: faces.source[face], box: faces.box[face] + " px",
    error: shown(faces.error[face], "%"), MAE: shown(faces.mae[face], " px"),
    disagreement: shown(faces.spread[face], "%"),
    ...data.other && faces.change[face] !== null ? {change: signed(faces.change[face])} : {},
    ...Object.fromEntries(Object.keys(layers).filter(name => name !== "truth").map(name => [name + ", distance", mean(name)])),
  };
  const table = dialog.querySelector("table");
  table.replaceChildren(...Object.entries(rows).map(([name, text]) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.textContent = name;
    row.append(head);
    row.insertCell().textContent = text;
    return row;
  }));
  if (data.root === null) return;  // the images are inside the file of the labels
  const link = document.createElement("a");
  link.textContent = "open the photo";
  link.href = data.root + "/" + faces.image[face].split("/").map(encodeURIComponent).join("/");
  table.insertRow().insertCell().append(link);
}

function step(by) {
  const place = order.indexOf(opened);
  openFace(order[Math.min(Math.max(place + by, 0), order.length - 1)] ?? opened);
}

dialog.onclose = () => $("#shown").append($("#layers"));
dialog.onkeydown = event => {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (by) { event.preventDefault(); step(by); }
};
dialog.onclick = event => {
  if (event.target === dialog) dialog.close();
  if (event.target.dataset.step) step(Number(event.target.dataset.step));
};
large.onpointermove = event => {
  let best = [0.03];
  for (const name of Object.keys(layers).filter(name => shown.has(name))) {
    for (let index = 0; index < numPoints; index++) {
      const place = point(name, opened, index), side = large.clientWidth;
      const away = place ? Math.hypot(place[0] - event.offsetX / side, place[1] - event.offsetY / side) : 1;
      if (away < best[0]) best = [away, name, index];
    }
  }
  const [, name, index] = best;
  if (name === undefined) return;
  const away = name === "truth" ? null : distance(name, opened, index);
  hint.textContent = `Point ${data.names[index]}, ${name}` +
    (away === null ? "" : `: ${away.toFixed(2)} px from the truth`);
};

// Tables: a click on a head sorts; a click on a face opens it.
const numberOf = text => { const found = parseFloat(text); return Number.isNaN(found) ? null : found; };

document.onclick = event => {
  const head = event.target.closest("table:not(.plain) th"), row = event.target.closest("tr[data-face]");
  if (head) sortTable(head);
  else if (row && event.target.closest("button")) {
    const number = Number(row.dataset.face), test = "test" in row.dataset;
    const found = faces.face.findIndex((face, at) => face === number && (faces.fold[at] === "test") === test);
    if (found >= 0) openFace(found);
  }
};

function sortTable(head) {
  const table = head.closest("table"), column = head.cellIndex, rows = [...table.rows].slice(1);
  const up = head.getAttribute("aria-sort") === "descending";
  for (const other of table.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const text = row => row.cells[column].textContent;
  rows.sort((a, b) => {
    const [x, y] = [numberOf(text(a)), numberOf(text(b))];
    const found = x !== null && y !== null ? x - y : (x === null) - (y === null) || text(a).localeCompare(text(b));
    return up ? found : -found;
  });
  rows[0]?.parentNode.append(...rows);
}

for (const row of document.querySelectorAll("#scores tr, #errors tr")) {
  if (row.cells[0].textContent === "ensemble") row.className = "best";
}
choose();
