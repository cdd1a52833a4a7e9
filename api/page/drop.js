// Files that are dropped on a place of the page, or chosen with the button in it.

/** `take(files)` is called with the files, once for each time that some come. */
export function acceptFiles(zone, input, take) {
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // the same file may be chosen again after it was taken out
  });
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    zone.addEventListener(name, () => zone.classList.remove("over"));
  }
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
}
