// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

// Draws the fleet from the JSON in the page. Texts from nodes are not trusted: they become the textContent of elements,
// never HTML. To keep a page of two thousand healthy nodes small, each node is one button, and neighbouring GPUs in the
// same state are one element.

"use strict";

(() => {
        const fleet = JSON.parse(document.getElementById("fleet").textContent);
        const TROUBLES_SHOWN = 20;
        const GPUS_IN_A_ROW = 8;
        const NO_ANSWER = "no answer";
        const LETTERS = {
                closing: "C",
                excluded: "X",
                failed: "F",
                held: "H",
                initialised: "I",
                leased: "L",
                [NO_ANSWER]: "–",
                "not initialised": "N",
                opening: "O",
                released: "R",
                stuck: "S",
                unknown: "?",
        };

        // ---- elements

        const at = (id) => document.getElementById(id);

        function make(name, properties, ...children) {
                const element = document.createElement(name);

                for (const [key, value] of Object.entries(properties ?? {}))
                        if (key in element)
                                element[key] = value;
                        else
                                element.setAttribute(key, value);
                element.append(...children);
                return element;
        }

        function draw(name, attributes, ...children) {
                const element = document.createElementNS("http://www.w3.org/2000/svg", name);

                for (const [key, value] of Object.entries(attributes))
                        element.setAttribute(key, value);
                element.append(...children);
                return element;
        }

        const classOf = (state) => state.replaceAll(" ", "-");
        const countOf = (n) => n.toLocaleString("en-US");
        const plural = (n, word) => `${countOf(n)} ${word}${n === 1 ? "" : "s"}`;
        const seconds = (ms) => (ms < 999.5 ? `${ms.toPrecision(3)} ms` : `${(ms / 1000).toFixed(2)} s`);
        const readable = (iso) => `${iso.replace("T", " ").slice(0, 19)} UTC`;
        const timeOf = (sec) => readable(new Date(sec * 1000).toISOString());

        // ---- the data, with names

        function gpuOf(row) {
                const [index, busId, uuid, model, state, since, openMs, opens, failures, error, clients, mode] = row;

                return { index, busId, uuid, model: fleet.models[model] ?? null, state: fleet.states[state], since, openMs,
                        opens, failures, error, clients, mode };
        }

        function nodeOf(row) {
                const gpus = row.gpus.map(gpuOf);
                const states = new Set(row.daemon ? gpus.map((gpu) => gpu.state) : [NO_ANSWER]);
                const words = [row.name, row.verdict, ...row.findings.flat(), row.daemon?.version, row.daemon?.kind, row.driver,
                        ...gpus.flatMap((gpu) => [gpu.busId, gpu.uuid, gpu.model, gpu.error, ...gpu.clients]), ...states];

                return { ...row, gpus, states, words: words.join("\n").toLowerCase() };
        }

        const nodes = fleet.nodes.map(nodeOf);

        /* The domain that all node names share, which the page omits. */
        function commonEnd() {
                const end = nodes[0].name.includes(".") ? nodes[0].name.slice(nodes[0].name.indexOf(".")) : "";

                return nodes.length > 1 && nodes.every((node) => node.name.endsWith(end)) ? end : "";
        }

        const end = commonEnd();
        const shortName = (node) => node.name.slice(0, node.name.length - end.length);

        function tally() {
                const counts = new Map([...fleet.states, NO_ANSWER].map((state) => [state, 0]));

                for (const node of nodes) {
                        if (!node.daemon)
                                counts.set(NO_ANSWER, counts.get(NO_ANSWER) + 1);
                        for (const gpu of node.gpus)
                                counts.set(gpu.state, counts.get(gpu.state) + 1);
                }
                return counts;
        }

        const counts = tally();

        // ---- GPUs as letters

        function run(state, n) {
                const element = make("span", { className: `run ${classOf(state)}`, title: state,
                        textContent: LETTERS[state].repeat(n) });

                element.style.setProperty("--n", n);
                return element;
        }

        function stripRow(gpus) {
                const row = make("span", { className: "strip", "aria-hidden": "true" });
                let n = 0;

                gpus.forEach((gpu, i) => {
                        n++;
                        if (gpus[i + 1]?.state !== gpu.state) {
                                row.append(run(gpu.state, n));
                                n = 0;
                        }
                });
                return row;
        }

        function strips(node) {
                const rows = [];

                if (!node.daemon)
                        return [make("span", { className: "strip" }, make("span", { className: "silence", textContent: NO_ANSWER }))];
                for (let i = 0; i < node.gpus.length; i += GPUS_IN_A_ROW)
                        rows.push(stripRow(node.gpus.slice(i, i + GPUS_IN_A_ROW)));
                return rows.length ? rows : [make("span", { className: "strip" },
                        make("span", { className: "silence", textContent: "no GPU" }))];
        }

        function inWords(node) {
                const by = new Map();

                for (const gpu of node.gpus)
                        by.set(gpu.state, (by.get(gpu.state) ?? 0) + 1);
                return node.daemon ? [...by].map(([state, n]) => `${n} ${state}`).join(", ") || "no GPU" : NO_ANSWER;
        }

        // ---- head

        function drawSummary() {
                const bad = nodes.filter((node) => node.verdict === "critical" || node.verdict === "unknown").length;
                const warned = nodes.filter((node) => node.verdict === "warning").length;
                const gpus = nodes.reduce((sum, node) => sum + node.gpus.length, 0);
                const present = [...counts].filter(([state, n]) => n > 0 && state !== NO_ANSWER);

                at("generated").textContent = `as of ${timeOf(fleet.generated)}`;
                at("headline").append(make("strong", { textContent: countOf(bad) }),
                        ` of ${plural(nodes.length, "node")} ${bad === 1 ? "needs" : "need"} attention`,
                        warned ? ` (${countOf(warned)} more ${warned === 1 ? "has" : "have"} warnings); ` : "; ",
                        make("strong", { textContent: countOf(counts.get("held")) }), ` of ${plural(gpus, "GPU")} are held`);
                at("bar").setAttribute("aria-label", present.map(([state, n]) => `${plural(n, "GPU")} ${state}`).join(", "));
                for (const [state, n] of present) {
                        const part = make("span", { className: `fill ${classOf(state)}`, title: `${plural(n, "GPU")} ${state}` });

                        part.style.flexGrow = n;
                        at("bar").append(part);
                }
        }

        // ---- what is wrong

        function troubleRow(node) {
                const name = make("button", { type: "button", className: "name", textContent: shortName(node),
                        title: node.name });
                const list = make("ul", {}, ...node.findings.map(([verdict, text]) =>
                        make("li", {}, make("span", { className: "verdict", textContent: verdict }), text)));

                name.addEventListener("click", () => openDetails(node));
                return make("tr", {}, make("td", {}, name), make("td", {}, ...strips(node)), make("td", {}, list));
        }

        function drawTroubles(shown, limit) {
                const all = shown.filter((node) => node.findings.length > 0);
                const more = at("more-troubles");

                at("trouble-rows").replaceChildren(...all.slice(0, limit).map(troubleRow));
                at("troubles").hidden = all.length === 0;
                more.className = "more";
                more.hidden = all.length <= limit;
                more.textContent = `Show all ${countOf(all.length)}`;
                more.onclick = () => drawTroubles(shown, Infinity);
        }

        // ---- the map

        function tileOf(node) {
                return make("button", { type: "button", tabIndex: -1, title: node.name,
                        className: `node ${node.verdict === "unknown" ? "unknown-verdict" : node.verdict}`,
                        "aria-label": `${node.name}: ${node.verdict}, ${inWords(node)}` },
                        make("b", { textContent: shortName(node) }), ...strips(node));
        }

        const tiles = nodes.map(tileOf);

        /* The Tab key stops once at the map; arrow keys move within it. */
        function rove(tile) {
                at("map").querySelector(".node[tabindex='0']")?.setAttribute("tabindex", -1);
                tile?.setAttribute("tabindex", 0);
        }

        function onMapKey(event) {
                const visible = tiles.filter((tile) => !tile.hidden);
                const columns = getComputedStyle(at("map")).gridTemplateColumns.split(" ").length;
                const here = visible.indexOf(document.activeElement);
                const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -here,
                        End: visible.length - 1 - here };

                if (here < 0 || !(event.key in steps))
                        return;
                event.preventDefault();
                const there = visible[Math.min(Math.max(here + steps[event.key], 0), visible.length - 1)];
                rove(there);
                there.focus();
        }

        function drawMap() {
                const map = at("map");

                map.append(...tiles);
                map.addEventListener("keydown", onMapKey);
                map.addEventListener("click", (event) => {
                        const tile = event.target.closest(".node");

                        if (tile) {
                                rove(tile);
                                openDetails(nodes[tiles.indexOf(tile)]);
                        }
                });
        }

        // ---- search and filters

        const chosen = new Set();

        function matches(node, words) {
                return (chosen.size === 0 || [...chosen].some((state) => node.states.has(state))) &&
                        words.every((word) => node.words.includes(word));
        }

        function filter() {
                const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
                const shown = [];

                nodes.forEach((node, i) => {
                        const fits = matches(node, words);

                        tiles[i].hidden = !fits;
                        if (fits)
                                shown.push(node);
                });
                rove(tiles.find((tile) => !tile.hidden));
                drawTroubles(shown, TROUBLES_SHOWN);
                at("shown").textContent = shown.length === nodes.length ? plural(nodes.length, "node")
                        : `${countOf(shown.length)} of ${plural(nodes.length, "node")}`;
        }

        function filterButton(state, n) {
                const button = make("button", { type: "button", "aria-pressed": "false" },
                        make("span", { className: `key ${classOf(state)}`, textContent: LETTERS[state], "aria-hidden": "true" }),
                        `${state} ${countOf(n)}`);

                button.addEventListener("click", () => {
                        const on = chosen.delete(state) ? false : Boolean(chosen.add(state));

                        button.setAttribute("aria-pressed", on);
                        filter();
                });
                return button;
        }

        function drawControls() {
                for (const [state, n] of counts)
                        if (n > 0)
                                at("filters").append(filterButton(state, n));
                at("search").addEventListener("input", filter);
                document.addEventListener("keydown", (event) => {
                        if (event.key === "/" && document.activeElement !== at("search") && !at("details").open) {
                                event.preventDefault();
                                at("search").focus();
                        }
                });
        }

        // ---- open times

        const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];

        /* Grouped by model, because open times differ between models. */
        function openTimes() {
                const by = new Map();

                for (const node of nodes)
                        for (const gpu of node.gpus) {
                                const model = gpu.model ?? "unknown model";

                                if (gpu.openMs === null)
                                        continue;
                                if (!by.has(model))
                                        by.set(model, []);
                                by.get(model).push({ node, gpu, ms: gpu.openMs });
                        }
                for (const opens of by.values())
                        opens.sort((a, b) => a.ms - b.ms);
                return by;
        }

        const opensBy = openTimes();
        const medianOf = (model) => quantile(opensBy.get(model ?? "unknown model").map((open) => open.ms), 0.5);

        /* Steps of an axis: 1, 2 or 5 times a power of ten. */
        function stepFor(max, n) {
                const power = 10 ** Math.floor(Math.log10(max / n));

                return power * ([1, 2, 5].find((factor) => factor * power * n >= max) ?? 10);
        }

        const PLOT = { width: 480, height: 150, left: 4, right: 8, bottom: 20, top: 6 };

        function axis(svg, max, xOf) {
                const base = PLOT.height - PLOT.bottom;
                const step = stepFor(max, 6);

                svg.append(draw("line", { class: "axis", x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: base, y2: base }));
                for (let i = 0; i * step <= max * 1.0001; i++)
                        svg.append(draw("line", { class: "axis", x1: xOf(i * step), x2: xOf(i * step), y1: base, y2: base + 4 }),
                                draw("text", { x: xOf(i * step), y: PLOT.height - 2, "text-anchor": i ? "middle" : "start" },
                                        `${Number(((i * step) / 1000).toPrecision(3))} s`));
        }

        function histogram(opens) {
                const slowest = opens[opens.length - 1].ms || 1;
                const width = stepFor(slowest, 40);
                const bins = new Array(Math.floor(slowest / width) + 1).fill(0);
                const xOf = (ms) => PLOT.left + (ms / (bins.length * width)) * (PLOT.width - PLOT.left - PLOT.right);
                const base = PLOT.height - PLOT.bottom;
                const svg = draw("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, "aria-hidden": "true" });

                for (const open of opens)
                        bins[Math.floor(open.ms / width)]++;
                const most = Math.max(...bins);
                bins.forEach((n, i) => {
                        const height = n ? Math.max((n / most) * (base - PLOT.top), 2) : 0; // visible even for one in thousands

                        if (n)
                                svg.append(draw("rect", { class: "bar", x: xOf(i * width), y: base - height,
                                        width: Math.max(xOf(width) - xOf(0) - 1, 1), height },
                                draw("title", {}, `${plural(n, "GPU")}: ${seconds(i * width)} to ${seconds((i + 1) * width)}`)));
                });
                const median = xOf(quantile(opens, 0.5).ms);
                svg.append(draw("line", { class: "median", x1: median, x2: median, y1: PLOT.top, y2: base }));
                axis(svg, bins.length * width, xOf);
                return svg;
        }

        function plotOf(model, opens) {
                const slowest = opens[opens.length - 1];
                const link = make("button", { type: "button", className: "name",
                        textContent: `GPU ${slowest.gpu.index} of ${shortName(slowest.node)}` });
                const simulated = model.startsWith("Simulated")
                        ? [make("p", { className: "hint", textContent: "Simulated GPUs: the times come from a model, not from real GPUs." })] : [];

                link.addEventListener("click", () => openDetails(slowest.node));
                return make("figure", {}, make("figcaption", { textContent: `${model}, ${plural(opens.length, "GPU")}` }), ...simulated,
                        histogram(opens), make("p", { className: "hint" },
                                `Half within ${seconds(quantile(opens, 0.5).ms)} (dashed), 95 % within `,
                                `${seconds(quantile(opens, 0.95).ms)}, the slowest in ${seconds(slowest.ms)}: `, link));
        }

        function drawTimes() {
                at("times").hidden = opensBy.size === 0;
                at("plots").append(...[...opensBy].sort((a, b) => b[1].length - a[1].length).map(([model, opens]) => plotOf(model, opens)));
        }

        // ---- details of one node

        function facts(node) {
                const daemon = node.daemon;
                const words = daemon && [daemon.kind, daemon.version, daemon.pid && `pid ${daemon.pid}`, daemon.backend && `${daemon.backend} backend`];
                const all = [
                        ["Daemon", words && words.filter(Boolean).join(", ")],
                        ["Running since", daemon?.started && readable(daemon.started)],
                        ["Driver", node.driver],
                        ["Answered", node.answered && timeOf(node.answered)],
                ];

                return make("dl", {}, ...all.filter(([, value]) => value).flatMap(([name, value]) =>
                        [make("dt", { textContent: name }), make("dd", { textContent: value })]));
        }

        function timeBar(gpu, max) {
                const median = medianOf(gpu.model);
                const svg = draw("svg", { viewBox: "0 0 120 12", role: "img", class: "spark",
                        "aria-label": `${seconds(gpu.openMs)}; half of the GPUs of this model take at most ${seconds(median)}` });

                svg.append(draw("rect", { class: "bar", x: 0, y: 2, width: Math.max((gpu.openMs / max) * 120, 1), height: 8 }),
                        draw("line", { class: "median", x1: (median / max) * 120, x2: (median / max) * 120, y1: 0, y2: 12 }));
                return svg;
        }

        function gpuRow(gpu, max) {
                const state = make("span", { className: `key ${classOf(gpu.state)}`, textContent: LETTERS[gpu.state] });
                const time = gpu.openMs === null ? ["-"] : [seconds(gpu.openMs), timeBar(gpu, max)];
                const cells = [String(gpu.index), gpu.busId, make("span", { className: "state" }, state, ` ${gpu.state}`), gpu.mode,
                        gpu.since ? readable(gpu.since) : "-", make("span", {}, ...time),
                        `${gpu.opens ?? "-"} / ${gpu.failures ?? "-"}`, make("div", { className: gpu.error ? "error" : "" }, gpu.error ?? "-"),
                        gpu.clients.join(", ") || "-", gpu.model ?? "-", gpu.uuid ?? "-"];

                return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
        }

        function gpuTable(node) {
                const heads = ["GPU", "Bus-Id", "State", "Persistence", "Since", "Open", "Opens / failures", "Last error", "Clients", "Model", "UUID"];
                const max = Math.max(...node.gpus.filter((gpu) => gpu.openMs !== null).flatMap((gpu) => [gpu.openMs, medianOf(gpu.model)]), 1);

                return make("div", { className: "scroll", tabIndex: 0 }, make("table", {},
                        make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col", textContent: head })))),
                        make("tbody", {}, ...node.gpus.map((gpu) => gpuRow(gpu, max)))));
        }

        function openDetails(node) {
                const close = make("button", { type: "button", className: "more close", textContent: "Close (Esc)" });
                const findings = node.findings.map(([verdict, text]) =>
                        make("li", {}, make("span", { className: "verdict", textContent: verdict }), text));

                close.addEventListener("click", () => at("details").close());
                at("details").replaceChildren(close, make("h2", { id: "details-title", textContent: node.name }),
                        make("ul", {}, ...findings), facts(node), ...(node.gpus.length ? [gpuTable(node)] : []));
                at("details").showModal();
                history.replaceState(null, "", `#${encodeURIComponent(node.name)}`);
        }

        /* FILE#NODE opens the details of that node, for links in tickets. */
        function followLink() {
                const node = nodes.find((one) => `#${encodeURIComponent(one.name)}` === location.hash);

                at("details").addEventListener("close", () => {
                        if (!at("details").open) // the event arrives late: another node's details may be open by now
                                history.replaceState(null, "", "#");
                });
                if (node)
                        openDetails(node);
        }

        drawSummary();
        drawControls();
        drawMap();
        drawTimes();
        filter();
        followLink();
})();
