// Formulas: arithmatex marks those of a page. In a notebook they stand between dollars in its cells of text, while a
// dollar in what its code printed is one.
const notebook = document.querySelector(".jupyter-wrapper");
if (notebook || document.querySelector(".arithmatex")) {
  const where = notebook ? ["jp-OutputArea", "jp-RenderedMarkdown"] : [".*|", "arithmatex"];
  window.MathJax = {
    tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]], displayMath: [["$$", "$$"], ["\\[", "\\]"]], processEscapes: true },
    options: { ignoreHtmlClass: where[0], processHtmlClass: where[1] },
  };
  const script = document.createElement("script");
  script.src = "https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-mml-chtml.js";
  document.head.append(script);
}
