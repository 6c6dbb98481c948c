"use strict";
// Lets the tables of the class "sortable" be sorted by their headings and filtered by words and by the values of a column.
// Works without a network; without this script the tables are whole, in the order of the bench.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows], headings = [...table.tHead.rows[0].cells];
  const value = (row, column) => row.cells[column].dataset.value ?? "";
  const controls = document.createElement("div");
  controls.className = "controls";
  const words = document.createElement("input");
  words.type = "search";
  words.placeholder = "words to look for";
  words.setAttribute("aria-label", "Show only rows with these words");
  const shown = document.createElement("output");
  const choices = [];
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let number = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted.every(word => text.includes(word)) &&
        choices.every(([column, choice]) => choice.value === "" || value(row, column) === choice.value.slice(1)));
      number += row.hidden ? 0 : 1;
    }
    shown.textContent = `${number} of ${rows.length} rows`;
  };
  words.addEventListener("input", filter);
  controls.append(words);
  headings.forEach((heading, column) => {
    const values = [...new Set(rows.map(row => value(row, column)))];
    if (heading.dataset.filter && values.length > 1 && values.length <= 40) {
      const choice = document.createElement("select");
      choice.setAttribute("aria-label", heading.dataset.filter);
      choice.append(new Option(`${heading.dataset.filter}: all`, ""));
      for (const one of values) choice.append(new Option(one || "none", `=${one}`));
      choice.addEventListener("change", filter);
      choices.push([column, choice]);
      controls.append(choice);
    }
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = heading.classList.contains("number");
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (x === "" || y === "") return (x === "") - (y === "");  // what has no figure stays at the end
        const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
        return up ? order : -order;
      });
      body.append(...sorted);
    });
    heading.append(button);
  });
  controls.append(shown);
  table.closest(".scroll").before(controls);
  filter();
}
