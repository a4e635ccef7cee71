// On a notebook's page all that stands between dollars; elsewhere what pymdownx.arithmatex marks as
// mathematics, and nothing else.
window.MathJax = document.querySelector(".jp-Notebook")
  ? { tex: { inlineMath: [["$", "$"]] } }
  : {
      tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
      options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex" },
    };
