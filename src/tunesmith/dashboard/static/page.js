// What the page does in the browser itself: light and dark, uploads, curves, the connection.
(() => {
  "use strict";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  // Light and dark: as the system has it, until the visitor chooses.
  const chosen = () => localStorage.getItem("theme");
  function applyTheme() {
    root.dataset.theme = chosen() || (system.matches ? "dark" : "light");
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
    }
    for (const element of document.querySelectorAll(".nicegui-echart")) dress(element);
  }
  function switchTheme() {
    localStorage.setItem("theme", root.dataset.theme === "dark" ? "light" : "dark");
    applyTheme();
  }
  system.addEventListener("change", applyTheme);
  applyTheme();

  // Curves: drawn in the colours of the theme, and lengthened point by point.
  const chartOf = (element) => window.getElement?.(Number(element.id.slice(1)))?.chart;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  function dress(element, tries = 300) {
    const chart = chartOf(element);
    if (!chart || !chart.getOption()?.series) {
      if (tries && element.isConnected) setTimeout(() => dress(element, tries - 1), 10);
      return;
    }
    const axis = {
      axisLabel: { color: colour("--quiet") },
      axisLine: { lineStyle: { color: colour("--edge") } },
      splitLine: { lineStyle: { color: colour("--line") } },
      nameTextStyle: { color: colour("--quiet") },
    };
    const colours = [colour("--curve-1"), colour("--curve-2")];
    chart.setOption({
      textStyle: { color: colour("--ink") },
      legend: { textStyle: { color: colour("--ink") } },
      tooltip: {
        backgroundColor: colour("--surface"),
        borderColor: colour("--line"),
        textStyle: { color: colour("--ink") },
      },
      xAxis: axis,
      yAxis: axis,
      series: chart.getOption().series.map((_, place) => ({
        lineStyle: { color: colours[place % 2] },
        itemStyle: { color: colours[place % 2] },
      })),
    });
  }
  function append(id, points, most) {
    const chart = window.getElement?.(id)?.chart;
    if (!chart) return;
    const series = chart.getOption().series.map((each) => ({ data: each.data }));
    for (const [place, x, y] of points) {
      const data = series[place].data;
      while (data.length && data[data.length - 1][0] >= x) data.pop();
      data.push([x, y]);
    }
    for (const each of series) {
      // Every second point of the older half goes, so that a long run stays quick to draw.
      if (each.data.length > most) {
        const half = each.data.length >> 1;
        each.data = each.data.filter((_, place) => place >= half || place % 2 === 0);
      }
    }
    chart.setOption({ series });
  }

  // Uploads: file by file, with progress; the service reads them as they come.
  function upload(list) {
    const files = [...list];
    const next = () => {
      const file = files.shift();
      if (file) send(file, next);
    };
    next();
  }
  function send(file, done) {
    const row = document.createElement("div");
    row.className = "upload";
    const name = document.createElement("span");
    name.textContent = file.name;
    const state = document.createElement("span");
    state.setAttribute("role", "status");
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.setAttribute("aria-label", `Upload of ${file.name}`);
    row.append(name, state, bar);
    document.getElementById("uploads").append(row);
    const request = new XMLHttpRequest();
    request.open("POST", `/files/upload?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("X-Tunesmith-Page", "1");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      bar.value = event.loaded / event.total;
      state.textContent =
        event.loaded < event.total ? `${Math.floor(bar.value * 100)} %` : "being kept…";
    };
    const fail = (message) => {
      state.textContent = "not uploaded";
      const note = document.createElement("p");
      note.className = "note bad";
      note.setAttribute("role", "alert");
      note.textContent = message;
      row.append(note);
    };
    request.onload = () => {
      let told = {};
      try {
        told = JSON.parse(request.responseText);
      } catch {
        told = { message: `The service answered ${request.status}.` };
      }
      if (request.status === 200) {
        bar.value = 1;
        state.textContent = "uploaded";
        window.emitEvent("uploaded", told.id);
      } else fail(told.message);
      done();
    };
    request.onerror = () => {
      fail("The connection broke off; send the file again.");
      done();
    };
    request.send(file);
  }
  document.addEventListener("change", (event) => {
    if (event.target.matches?.(".drop input[type=file]")) {
      upload(event.target.files);
      event.target.value = "";
    }
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const place = document.querySelector(".drop");
      if (!place || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      place.classList.toggle("over", kind === "dragover");
      if (kind === "drop") upload(event.dataTransfer.files);
    });
  }

  // The connection: its loss is told, and its return too.
  function watchConnection() {
    const place = document.createElement("div");
    place.id = "connection";
    place.setAttribute("role", "alert");
    document.body.append(place);
    const told = document.getElementById("popup");
    let lost = false;
    let timer;
    const say = (text, kind) => {
      place.replaceChildren();
      if (!text) return;
      const note = document.createElement("p");
      note.className = `note ${kind}`;
      note.textContent = text;
      place.append(note);
    };
    new MutationObserver(() => {
      clearTimeout(timer);
      if (told.ariaHidden === "false") {
        timer = setTimeout(() => {
          lost = true;
          say("The connection to the service is lost. Trying again…", "bad");
        }, 500);
      } else if (lost) {
        lost = false;
        say("Connected again.", "good");
        timer = setTimeout(() => say(""), 4000);
      }
    }).observe(told, { attributes: true, attributeFilter: ["aria-hidden"] });
  }

  document.addEventListener("DOMContentLoaded", () => {
    watchConnection();
    // What the page came with is there already.
    applyTheme();
    new MutationObserver((changes) => {
      for (const change of changes) {
        for (const added of change.addedNodes) {
          if (added.nodeType !== 1) continue;
          if (added.matches("[data-theme-switch]") || added.querySelector("[data-theme-switch]")) {
            applyTheme();
          }
          if (added.matches(".nicegui-echart")) dress(added);
          for (const chart of added.querySelectorAll(".nicegui-echart")) dress(chart);
        }
      }
    }).observe(document.body, { childList: true, subtree: true });
  });

  window.tunesmith = { append, switchTheme, upload };
})();
