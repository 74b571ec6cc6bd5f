/* Tries a regular expression on the layers' names, off the page: see tryRegex in layer_tree_model.js, which loads it. Dash
   puts it on the page with the other assets, where it has nothing to do. */
if (self.document === undefined) {
  self.onmessage = ({ data: { source, flags, names } }) => {
    self.postMessage("begun");
    const pattern = new RegExp(source, flags);
    const spans = [];
    for (const name of names) {
      const found = pattern.exec(name);
      if (found) spans.push([name, [found.index, found.index + found[0].length]]);
    }
    self.postMessage(spans);
  };
}
