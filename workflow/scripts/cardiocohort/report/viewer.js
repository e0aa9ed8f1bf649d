// The 3-D view of the report: one heart of the gallery at a time, drawn with three.js when something changes.
// Data: `viewer.py`. Elements: `cohort_viewer.html.j2`. World: RAS, mm; the front view faces the patient.
(() => {
  "use strict";
  const element = (id) => document.getElementById(id);
  const json = (node) => JSON.parse(node.textContent);
  const root = element("viewer");
  const canvas = element("viewer-canvas");
  const context = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!context) {
    element("viewer-without").textContent =
      "This browser has no WebGL 2, which the 3-D view needs. The pictures below show the same hearts.";
    return;
  }
  const shared = json(element("viewer-shared"));
  const hearts = new Map(
    [...document.querySelectorAll("script[data-heart]")].map((node) => [node.dataset.heart, node]),
  );

  // ---- decoding

  const KINDS = { u8: Uint8Array, i8: Int8Array, u16: Uint16Array, u32: Uint32Array };
  const array = (text, kind) =>
    new KINDS[kind](Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const positions = (part) =>
    Float32Array.from(array(part.points, "u16"), (v, i) => part.origin_mm[i % 3] + part.step_mm * v);
  const triangles = (part) => array(part.triangles, `u${part.triangles_bits}`);

  // ---- scene, camera, lights as in the pictures: from the upper left, fixed to the viewer

  const renderer = new THREE.WebGLRenderer({ canvas, context });
  const scene = new THREE.Scene();
  const camera = new THREE.OrthographicCamera();
  const centre = new THREE.Vector3(...shared.centre_mm);
  const reach = shared.size_mm; // everything lies nearer to the centre
  const light = new THREE.DirectionalLight(0xffffff, 0.65 * Math.PI);
  light.position.set(-0.45, 0.55, 0.7);
  camera.add(light);
  scene.add(camera, new THREE.AmbientLight(0xffffff, 0.42 * Math.PI));
  camera.up.set(0, 0, 1);
  const controls = new THREE.OrbitControls(camera, canvas);
  controls.target.copy(centre);
  controls.minZoom = 0.5;
  controls.maxZoom = 12;
  controls.addEventListener("change", draw);

  // direction of the viewer from the heart: degrees to the patient's left, degrees towards the head
  const VIEWS = { front: [0, 0], left: [90, 0], back: [180, 0], right: [-90, 0], above: [0, 90], below: [0, -90] };
  function look(turn, tilt) {
    const [a, e] = [(turn * Math.PI) / 180, (tilt * Math.PI) / 180];
    const steep = Math.max(Math.cos(e), 1e-4); // up stays defined
    const away = new THREE.Vector3(-Math.sin(a) * steep, Math.cos(a) * steep, Math.sin(e));
    camera.position.copy(controls.target).addScaledVector(away.normalize(), 2 * reach);
    controls.update();
    draw();
  }
  function turnBy(degrees, tilt) {
    const away = camera.position.clone().sub(controls.target).normalize();
    const deg = 180 / Math.PI;
    const now = Math.asin(Math.min(1, Math.max(-1, away.z))) * deg;
    look(Math.atan2(-away.x, away.y) * deg + degrees, Math.min(90, Math.max(-90, now + tilt)));
  }
  function zoomBy(factor) {
    camera.zoom = Math.min(controls.maxZoom, Math.max(controls.minZoom, camera.zoom * factor));
    camera.updateProjectionMatrix();
    draw();
  }
  function reset() {
    controls.target.copy(centre);
    zoomBy(1 / camera.zoom);
    look(...VIEWS.front);
  }

  // ---- the parts of a heart

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const shade = (colour, factor) => new THREE.Color(colour).multiplyScalar(factor);
  const lines = (ends, colour, width) => {
    const geometry = new THREE.LineSegmentsGeometry().setPositions(ends);
    return new THREE.LineSegments2(geometry, new THREE.LineMaterial({ color: colour, linewidth: width }));
  };
  // the inside, seen where the surface is cut: flat and a little nearer, so that it looks like a cut face
  const inside = (geometry, colour) =>
    new THREE.Mesh(
      geometry,
      new THREE.MeshBasicMaterial({
        color: shade(colour, 0.62), side: THREE.BackSide,
        polygonOffset: true, polygonOffsetFactor: 0, polygonOffsetUnits: -80000,
      }),
    );

  function solid(part, colour) {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(positions(part), 3));
    geometry.setIndex(new THREE.BufferAttribute(triangles(part), 1));
    geometry.computeVertexNormals();
    const group = new THREE.Group();
    group.add(new THREE.Mesh(geometry, new THREE.MeshLambertMaterial({ color: colour })), inside(geometry, colour));
    return group;
  }

  function ellipsoid({ centre: c, axes, colour }) {
    const ends = [];
    const steps = 96;
    const circle = (k, point) => {
      const [a, b] = [(2 * Math.PI * k) / steps, (2 * Math.PI * (k + 1)) / steps];
      for (const u of [point(a), point(b)]) {
        for (let i = 0; i < 3; i += 1) ends.push(c[i] + axes[i][0] * u[0] + axes[i][1] * u[1] + axes[i][2] * u[2]);
      }
    };
    for (let k = 0; k < steps; k += 1) {
      for (let m = 0; m < 4; m += 1) {
        const [cos, sin] = [Math.cos((m * Math.PI) / 4), Math.sin((m * Math.PI) / 4)];
        circle(k, (t) => [Math.cos(t) * cos, Math.cos(t) * sin, Math.sin(t)]);
      }
      for (const h of [-0.6, 0, 0.6]) {
        const r = Math.sqrt(1 - h * h);
        circle(k, (t) => [r * Math.cos(t), r * Math.sin(t), h]);
      }
    }
    return lines(ends, shade(colour, dark.matches ? 1.3 : 0.6), 1.5);
  }

  function muscle(part) {
    const nodes = positions(part);
    const corners = triangles(part);
    const pairs = [];
    for (let i = 0; i < corners.length; i += 1) {
      const next = corners[i % 3 === 2 ? i - 2 : i + 1];
      if (corners[i] < next) pairs.push(corners[i], next); // closed: once in each direction
    }
    const geometry = new THREE.BufferGeometry();
    // each facet has corners of its own: one colour each
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(corners.length * 3), 3));
    geometry.setAttribute("color", new THREE.BufferAttribute(new Float32Array(corners.length * 3), 3));
    const material = new THREE.MeshLambertMaterial({
      vertexColors: true, polygonOffset: true, polygonOffsetFactor: 1, polygonOffsetUnits: 1,
    });
    const cut = inside(geometry, part.paints.structures ? "#ffffff" : shared.muscle);
    cut.material.vertexColors = "structures" in part.paints; // regions that fill the heart have colours inside too
    const found = { group: new THREE.Group(), geometry, nodes, corners, pairs };
    found.steps = part.motion && array(part.motion.steps, "i8");
    found.edges = lines([0, 0, 0, 0, 0, 0], 0x30343c, 0.8);
    Object.assign(found.edges.material, { transparent: true, opacity: 0.3 });
    found.group.add(new THREE.Mesh(geometry, material), cut, found.edges);
    if (part.fibres) {
      found.along = array(part.fibres.along, "i8");
      found.rooted = array(part.fibres.nodes, `u${part.fibres.nodes_bits}`);
      found.fibres = lines([0, 0, 0, 0, 0, 0], 0x191923, 1.3);
      found.group.add(found.fibres);
    }
    move(part, found, 0);
    return found;
  }

  // the mesh at a moment of its motion, if it has one
  function move(part, mesh, moment) {
    const { nodes, corners, steps, geometry } = mesh;
    const first = moment * nodes.length;
    const places = steps ? nodes.map((v, i) => v + part.motion.move_mm * steps[first + i]) : nodes;
    const place = (n) => places.subarray(3 * n, 3 * n + 3);
    const spread = geometry.getAttribute("position");
    corners.forEach((n, i) => spread.array.set(place(n), 3 * i));
    spread.needsUpdate = true;
    geometry.computeVertexNormals();
    geometry.computeBoundingSphere();
    redraw(mesh.edges, mesh.pairs.flatMap((n) => [...place(n)]));
    if (!mesh.fibres) return;
    const ends = [];
    const moments = steps ? moment * 3 * mesh.rooted.length : 0;
    mesh.rooted.forEach((n, k) => {
      for (const side of [-2.5, 2.5]) {
        for (let i = 0; i < 3; i += 1) ends.push(places[3 * n + i] + (side * mesh.along[moments + 3 * k + i]) / 127);
      }
    });
    redraw(mesh.fibres, ends);
  }

  function redraw(object, ends) {
    object.geometry.dispose();
    object.geometry = new THREE.LineSegmentsGeometry().setPositions(ends);
  }

  function paint(part, mesh, name, moment) {
    const { colours: names, range, step } = shared.paints[name];
    const table = names.map((colour) => new THREE.Color(colour));
    const colours = mesh.geometry.getAttribute("color");
    const facets = mesh.corners.length / 3;
    let numbers = array(part.paints[name], step ? "i8" : "u8");
    if (step) {
      const [low, high] = range; // values, one list per moment: their place in the range is the colour
      numbers = [...numbers.subarray(moment * facets, (moment + 1) * facets)].map((value) =>
        Math.round(255 * Math.min(1, Math.max(0, (value * step - low) / (high - low)))),
      );
    }
    numbers.forEach((number, k) => {
      for (let i = 3 * k; i < 3 * k + 3; i += 1) colours.setXYZ(i, table[number].r, table[number].g, table[number].b);
    });
    colours.needsUpdate = true;
    legend(shared.paints[name]);
  }

  function legend({ legend: names, colours, range, unit }) {
    const list = element("viewer-legend");
    list.replaceChildren();
    const add = (text, style) => {
      const item = document.createElement("li");
      const chip = document.createElement("i");
      Object.assign(chip.style, style);
      item.append(chip, text);
      list.append(item);
    };
    if (names) {
      names.forEach((name, k) => add(name, { background: colours[k] }));
    } else {
      const stops = colours.filter((_, k) => k % 15 === 0).join(", ");
      const [low, high] = range.map((value) => `${value} ${unit}`.replace("-", "−"));
      add(`${low} or less to ${high} or more`, { background: `linear-gradient(to right, ${stops})`, width: "8rem" });
    }
  }

  // ---- one heart

  let shown = null;
  const boxes = () => [...root.querySelectorAll("input[data-structure]")];
  const on = (id) => element(id).checked;

  function show(subject) {
    if (shown) {
      shown.group.traverse((node) => {
        node.geometry?.dispose();
        node.material?.dispose();
      });
      scene.remove(shown.group);
    }
    const data = json(hearts.get(subject));
    shown = { data, group: new THREE.Group(), structures: new Map(), ellipsoids: [], mesh: null };
    for (const { name, colour } of shared.structures) {
      if (data.structures[name]) shown.structures.set(name, solid(data.structures[name], colour));
    }
    shown.ellipsoids = data.ellipsoids.map((one) => [one.structure, ellipsoid(one)]);
    shown.group.add(...shown.structures.values(), ...shown.ellipsoids.map(([, object]) => object));
    stop();
    const labels = data.mesh?.motion?.labels ?? [];
    element("viewer-motion").hidden = !labels.length;
    element("viewer-moment").max = Math.max(labels.length - 1, 0);
    element("viewer-moment").value = 0;
    element("viewer-play").hidden = labels.length < 3;
    if (data.mesh) {
      shown.mesh = muscle(data.mesh);
      shown.group.add(shown.mesh.group);
      for (const option of element("viewer-paint").options) option.disabled = !(option.value in data.mesh.paints);
      const drawn = triangles(data.mesh).length / 3;
      const number = (n) => n.toLocaleString("en");
      element("viewer-facets").textContent =
        drawn === data.mesh.facets
          ? `Surface of ${number(drawn)} triangles.`
          : `Drawn with ${number(drawn)} of the surface's ${number(data.mesh.facets)} triangles.`;
      if (element("viewer-paint").selectedOptions[0].disabled) {
        element("viewer-paint").value = [...element("viewer-paint").options].find((o) => !o.disabled).value;
      }
    } else if (on("viewer-mesh")) {
      element("viewer-mesh").checked = false;
      for (const box of boxes()) box.checked = true;
    }
    for (const box of boxes()) box.disabled = !shown.structures.has(box.dataset.structure);
    element("viewer-mesh").disabled = !data.mesh;
    element("viewer-facets").hidden = !data.mesh;
    element("viewer-ellipsoids").disabled = !data.ellipsoids.length;
    element("viewer-heart").value = subject;
    canvas.setAttribute("aria-label", `3-D view of ${subject}`);
    scene.add(shown.group);
    recolour();
    apply();
  }

  function recolour() {
    if (shown.mesh) paint(shown.data.mesh, shown.mesh, element("viewer-paint").value, moment());
  }

  // ---- the moments of a simulated heart

  const moment = () => Number(element("viewer-moment").value);
  let playing = null;

  function moveTo(k) {
    const slider = element("viewer-moment");
    slider.value = k;
    if (!shown.mesh?.steps) return;
    move(shown.data.mesh, shown.mesh, k);
    if (element("viewer-paint").value === "strain") recolour();
    say();
    draw();
  }
  function say() {
    const words = shown.data.mesh?.motion?.labels[moment()] ?? "";
    element("viewer-moment").setAttribute("aria-valuetext", words);
    element("viewer-when").textContent = words;
  }
  function stop() {
    clearInterval(playing);
    playing = null;
    element("viewer-play").textContent = "Play";
  }
  function play() {
    if (playing) return stop();
    const frames = Number(element("viewer-moment").max) + 1;
    element("viewer-play").textContent = "Stop";
    playing = setInterval(() => moveTo((moment() + 1) % frames), 120);
  }

  function apply() {
    const opacity = element("viewer-opacity").value / 100;
    const see = opacity < 1;
    const wanted = new Set(boxes().filter((box) => box.checked).map((box) => box.dataset.structure));
    for (const [name, group] of shown.structures) {
      group.visible = wanted.has(name);
      const [outer, inner] = group.children;
      if (outer.material.transparent !== see) outer.material.needsUpdate = true;
      Object.assign(outer.material, { opacity, transparent: see, depthWrite: !see });
      inner.visible = !see;
    }
    for (const [, object] of shown.ellipsoids) object.visible = on("viewer-ellipsoids");
    const meshed = shown.mesh !== null && on("viewer-mesh");
    for (const name of ["viewer-edges", "viewer-fibres", "viewer-paint", "viewer-moment", "viewer-play"]) {
      element(name).disabled = !meshed;
    }
    if (!meshed) stop();
    say();
    element("viewer-legend").hidden = !meshed;
    if (shown.mesh) {
      shown.mesh.group.visible = meshed;
      shown.mesh.edges.visible = on("viewer-edges");
      if (shown.mesh.fibres) shown.mesh.fibres.visible = on("viewer-fibres");
      element("viewer-fibres").disabled ||= !shown.mesh.fibres;
    }
    draw();
  }

  // ---- drawing: once per frame at most, and nothing while nothing changes

  let due = false;
  function draw() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      const cut = element("viewer-cut").value / 100;
      camera.near = reach + cut * 2 * reach * 0.7 + (cut ? 0.3 * reach : 0);
      camera.far = 3 * reach;
      camera.updateProjectionMatrix();
      renderer.render(scene, camera);
      captions();
    });
  }

  function fit() {
    const { clientWidth: width, clientHeight: height } = canvas.parentElement;
    renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    renderer.setSize(width, height);
    const half = (shared.size_mm / 2) * 1.02;
    const [x, y] = width > height ? [(half * width) / height, half] : [half, (half * height) / width];
    Object.assign(camera, { left: -x, right: x, top: y, bottom: -y });
    draw();
  }

  function captions() {
    // letters of the edges, as in the slices: the patient's right or left, front or back, head or feet
    const letters = ["RL", "AP", "HF"];
    const e = camera.matrixWorld.elements;
    const letter = (v, sign) => {
      const i = v.map(Math.abs).indexOf(Math.max(...v.map(Math.abs)));
      return letters[i][v[i] * sign > 0 ? 0 : 1];
    };
    const [right, up] = [[e[0], e[1], e[2]], [e[4], e[5], e[6]]];
    element("viewer-west").textContent = letter(right, -1);
    element("viewer-east").textContent = letter(right, 1);
    element("viewer-north").textContent = letter(up, 1);
    element("viewer-south").textContent = letter(up, -1);
    const pixels = (canvas.clientHeight / (camera.top - camera.bottom)) * camera.zoom;
    const length = [50, 20, 10, 5].find((mm) => mm * pixels < 0.4 * canvas.clientWidth) ?? 5;
    element("viewer-scale").textContent = `${length} mm`;
    element("viewer-scale").style.width = `${length * pixels}px`;
  }

  // ---- controls

  const KEYS = {
    // the heart follows the arrow, as it follows the mouse: the viewer goes the other way
    ArrowLeft: () => turnBy(10, 0), ArrowRight: () => turnBy(-10, 0),
    ArrowUp: () => turnBy(0, -10), ArrowDown: () => turnBy(0, 10),
    "+": () => zoomBy(1.15), "=": () => zoomBy(1.15), "-": () => zoomBy(1 / 1.15),
    0: reset, Home: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  for (const button of root.querySelectorAll("button[data-view]")) {
    button.addEventListener("click", () => look(...VIEWS[button.dataset.view]));
  }
  for (const button of root.querySelectorAll("button[data-all]")) {
    button.addEventListener("click", () => {
      for (const box of boxes()) box.checked = button.dataset.all === "on";
      apply();
    });
  }
  element("viewer-reset").addEventListener("click", reset);
  element("viewer-heart").addEventListener("change", (event) => show(event.target.value));
  element("viewer-paint").addEventListener("change", () => {
    recolour();
    draw();
  });
  element("viewer-moment").addEventListener("input", () => {
    stop();
    moveTo(moment());
  });
  element("viewer-play").addEventListener("click", play);
  // the mesh lies inside the structures: it takes their place
  element("viewer-mesh").addEventListener("change", (event) => {
    for (const box of boxes()) box.checked = !event.target.checked;
  });
  root.addEventListener("input", apply);
  root.addEventListener("change", apply);
  // the hearts' own buttons stand below this script
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("button[data-turn]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        show(button.dataset.turn);
        root.scrollIntoView({ block: "start" });
        canvas.focus({ preventScroll: true });
      });
    }
  });
  dark.addEventListener("change", () => show(element("viewer-heart").value));

  element("viewer-without").hidden = true;
  element("viewer-parts").hidden = false;
  new ResizeObserver(fit).observe(canvas.parentElement);
  show([...hearts.keys()][0]);
  reset();
})();
